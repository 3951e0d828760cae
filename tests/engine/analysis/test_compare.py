"""`tidegate compare` and `tidegate calibrate`: the account of another configuration adds up."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.analysis import calibration
from engine.analysis.backtest import ConfigurationCandidate, backtest
from engine.analysis.calibration import Trial, as_lines, as_option, choose, with_threshold
from engine.analysis.collateral import MailCounts
from engine.analysis.comparison import compare
from engine.analysis.senders import CLASSES, SenderClasses
from engine.cli import main
from engine.cli.table import aligned
from engine.config.load import load_settings
from engine.pipeline.replay import EventReader
from tests.support.months import write_month
from topics.events import parse_event
from topics.keys import key_of

DAY_MS = 86_400_000
Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson")


@pytest.fixture
def run(month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    for name, threshold in (("even", 1.0), ("strict", 0.25), ("lax", 50.0)):
        (tmp_path / f"{name}.toml").write_text(as_lines(threshold))

    def answered(*arguments: str) -> tuple[int, Any]:
        status = main([*arguments, str(month), "--json"])
        return status, orjson.loads(capsys.readouterr().out)

    return answered


def test_compare_with_itself_finds_no_difference(run: Run) -> None:
    status, answer = run("compare", "--old", "even.toml", "--new", "even.toml")
    assert status == 0
    assert (
        answer["throttle_periods"]["gained"]
        == answer["throttle_periods"]["lost"]
        == 0
        < answer["throttle_periods"]["kept"]
    )
    assert answer["movers"] == []
    assert answer["all"]["old"] == answer["all"]["new"]
    assert answer["all"]["new"]["delayed"] > 0


def test_compare_reversed_swaps_gained_and_lost(run: Run) -> None:
    _, there = run("compare", "--old", "even.toml", "--new", "strict.toml")
    _, back = run("compare", "--old", "strict.toml", "--new", "even.toml")
    assert there["throttle_periods"]["gained"] == back["throttle_periods"]["lost"] > 0
    assert there["throttle_periods"]["lost"] == back["throttle_periods"]["gained"]
    assert [mover["network"] for mover in there["movers"]] == [mover["network"] for mover in back["movers"]]
    first = there["movers"][0]
    assert (first["new_delayed"], first["new_caught"]) != (first["old_delayed"], first["old_caught"])


def test_compare_classes_add_up_to_the_file(run: Run, month: Path) -> None:
    _, answer = run("compare", "--old", "even.toml", "--new", "lax.toml")
    for which in ("old", "new"):
        for figure in MailCounts._fields:
            parts = [answer["classes"][name][which][figure] for name in CLASSES]
            assert sum(parts) == answer["all"][which][figure]
    events = [parse_event(line) for line in month.read_bytes().splitlines()]
    accepted = [event for event in events if event.outcome == "accepted"]
    assert answer["all"]["new"]["accepted"] == sum(event.messages for event in accepted)
    days = {(key_of(event.ip), event.ts // DAY_MS) for event in accepted}
    assert answer["all"]["new"]["sender_days"] == len(days)


@pytest.mark.parametrize(("budget", "status"), [("100", 0), ("0", 1)])
def test_compare_exit_status_is_1_over_budget(run: Run, budget: str, status: int) -> None:
    exit_status, answer = run("compare", "--old", "lax.toml", "--new", "strict.toml", "--budget", budget)
    assert (exit_status, answer["over_budget"]) == (status, status == 1)


def test_compare_with_a_missing_configuration_is_a_one_line_error(
    month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--old", str(tmp_path / "none.toml"), "--new", "x.toml", str(month)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_backtest_of_many_candidates_equals_one_pass_each(month: Path) -> None:
    chosen = [with_threshold(load_settings(None, {}, {}), threshold) for threshold in (0.5, 2.0)]
    together = [ConfigurationCandidate(settings, 0) for settings in chosen]

    backtest(together, [io.BytesIO(month.read_bytes())])

    for settings, candidate in zip(chosen, together, strict=True):
        alone = ConfigurationCandidate(settings, 0)
        backtest([alone], [io.BytesIO(month.read_bytes())])
        assert compare(alone.collateral, candidate.collateral).movers == []
        assert alone.collateral.counts() == candidate.collateral.counts()
        assert alone.collateral.throttle_periods == candidate.collateral.throttle_periods


def test_sender_class_follows_from_closed_days(month: Path) -> None:
    sender_classes, reader, classes, first = SenderClasses(), EventReader(), [], []
    for events in reader.read(month.read_bytes()):
        senders = sender_classes.classify(events)
        classes += senders.classes.tolist()
        first += senders.is_first_of_day.tolist()
    last_day: dict[int, int] = {}
    closed: dict[int, int] = {}
    accepted: set[tuple[int, int]] = set()
    for i, line in enumerate(month.read_bytes().splitlines()):
        event = parse_event(line)
        key, day = key_of(event.ip), event.ts // DAY_MS
        if day > last_day.setdefault(key, day):
            last_day[key], closed[key] = day, closed.get(key, 0) + 1
        days = closed.get(key, 0)
        wanted = "newcomer" if days == 0 else "probation" if days <= 3 else "known" if days < 14 else "established"
        assert CLASSES[classes[i]] == wanted
        if event.outcome == "accepted":
            accepted.add((key, day))
    assert sum(first) == len(accepted)
    assert set(np.unique(classes)) == set(range(len(CLASSES)))


def trial_with(threshold: float, delayed: int) -> Trial:
    counts = MailCounts(1000, delayed, 0, 0, 1000, delayed)
    return Trial(threshold, 0, counts, counts, counts)


@given(st.lists(st.tuples(st.floats(0.05, 100), st.integers(0, 100)), min_size=1, max_size=8), st.floats(0, 0.1))
def test_chosen_threshold_and_all_larger_ones_keep_the_budget(tried: list[tuple[float, int]], budget: float) -> None:
    trials = [trial_with(*pair) for pair in tried]
    chosen = choose(trials, budget)
    if chosen is None:
        assert max(trials, key=lambda trial: trial.threshold).choosing.days_share > budget
    else:
        larger = [trial for trial in trials if trial.threshold > chosen.threshold]
        assert all(trial.choosing.days_share <= budget for trial in (chosen, *larger))


def test_calibrate_chooses_the_most_sensitive_threshold_within_budget(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "FINER", 2)
    status, answer = run("calibrate", "--budget", "0.1")
    assert status == 0
    trials = {trial["threshold"]: trial["choosing"]["sender_days_delayed_share"] for trial in answer["trials"]}
    chosen = answer["chosen"]["threshold"]
    assert trials[chosen] <= 0.001
    stricter = [threshold for threshold in trials if threshold < chosen]
    assert stricter
    assert trials[max(stricter)] > 0.001
    assert len(trials) > len(calibration.COARSE)
    deferred = [row["delayed"] + row["caught"] for row in answer["most_deferred"]]
    assert deferred == sorted(deferred, reverse=True)
    assert deferred[0] > 0


def test_calibrate_on_too_few_days_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "short.ndjson"
    short.write_text('{"ts":1764000000000,"ip":"192.0.2.1"}\n')
    assert main(["calibrate", str(short)]) == 2
    assert capsys.readouterr().err == (
        "tidegate: the events span 1 days: give at least 8, as most senders are new in the first ones (weeks are better)\n"
    )


def test_compare_and_calibrate_print_tables(
    month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "COARSE", (1.0, 4.0))
    monkeypatch.setattr(calibration, "FINER", 1)
    for name, threshold in (("even", 1.0), ("strict", 0.25)):
        (tmp_path / f"{name}.toml").write_text(as_lines(threshold))
    pair = [f"--{which}={tmp_path / name}.toml" for which, name in (("old", "even"), ("new", "strict"))]
    assert main(["compare", *pair, str(month), "--budget", "0"]) == 1
    printed = capsys.readouterr()
    for name in (*CLASSES, "all", "largest differences"):
        assert f"\n{name}" in printed.out
    assert "over the budget of 0 %" in printed.err
    assert main(["calibrate", str(month), "--budget", "2"]) == 0
    out = capsys.readouterr().out
    assert out.endswith((as_lines(1.0), as_lines(4.0), as_lines(2.0)))


def test_table_columns_fit_their_content() -> None:
    lines = list(aligned(("name", "count", "share"), [("a", 1234567, "0.50%"), ("longer", None, "12.00%")]))
    assert lines == ["name        count   share", "a       1,234,567   0.50%", "longer          -  12.00%"]


@given(st.floats(0.06, 90).map(lambda threshold: float(f"{threshold:g}")))
def test_threshold_as_option_equals_settings_with_threshold(threshold: float) -> None:
    name, value = as_option(threshold)
    assert load_settings(None, {}, {f"model.{name}": value}) == with_threshold(load_settings(None, {}, {}), threshold)
