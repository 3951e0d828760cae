"""`tidegate compare` and `tidegate calibrate`: what another configuration would have done, in books that add up."""

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
from engine.analysis.backtest import Contender, contest
from engine.analysis.calibration import Trial, as_lines, as_option, choose, turned
from engine.analysis.collateral import Counts
from engine.analysis.comparison import compare
from engine.analysis.senders import CLASSES, Senders
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


def test_a_configuration_compared_with_itself_differs_in_nothing(run: Run) -> None:
    status, answer = run("compare", "--old", "even.toml", "--new", "even.toml")
    assert status == 0
    assert answer["spells"]["gained"] == answer["spells"]["lost"] == 0 < answer["spells"]["kept"]
    assert answer["movers"] == []
    assert answer["everybody"]["old"] == answer["everybody"]["new"]
    assert answer["everybody"]["new"]["delayed"] > 0


def test_what_one_gains_the_other_way_round_is_lost(run: Run) -> None:
    _, there = run("compare", "--old", "even.toml", "--new", "strict.toml")
    _, back = run("compare", "--old", "strict.toml", "--new", "even.toml")
    assert there["spells"]["gained"] == back["spells"]["lost"] > 0
    assert there["spells"]["lost"] == back["spells"]["gained"]
    assert [mover["network"] for mover in there["movers"]] == [mover["network"] for mover in back["movers"]]
    first = there["movers"][0]
    assert (first["new_delayed"], first["new_held"]) != (first["old_delayed"], first["old_held"])


def test_the_classes_add_up_to_everybody_and_everybody_to_the_file(run: Run, month: Path) -> None:
    _, answer = run("compare", "--old", "even.toml", "--new", "lax.toml")
    for which in ("old", "new"):
        for figure in Counts._fields:
            parts = [answer["classes"][name][which][figure] for name in CLASSES]
            assert sum(parts) == answer["everybody"][which][figure]
    events = [parse_event(line) for line in month.read_bytes().splitlines()]
    accepted = [event for event in events if event.outcome == "accepted"]
    assert answer["everybody"]["new"]["accepted"] == sum(event.messages for event in accepted)
    days = {(key_of(event.ip), event.ts // DAY_MS) for event in accepted}
    assert answer["everybody"]["new"]["sender_days"] == len(days)


@pytest.mark.parametrize(("budget", "status"), [("100", 0), ("0", 1)])
def test_the_exit_status_is_a_gate_on_the_budget(run: Run, budget: str, status: int) -> None:
    found, answer = run("compare", "--old", "lax.toml", "--new", "strict.toml", "--budget", budget)
    assert (found, answer["over_budget"]) == (status, status == 1)


def test_a_configuration_that_is_not_there_is_one_line(
    month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--old", str(tmp_path / "none.toml"), "--new", "x.toml", str(month)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_one_pass_for_many_says_what_a_pass_for_each_says(month: Path) -> None:
    chosen = [turned(load_settings(None, {}, {}), threshold) for threshold in (0.5, 2.0)]
    together = [Contender(settings, 0) for settings in chosen]
    contest(together, [io.BytesIO(month.read_bytes())])
    for settings, contender in zip(chosen, together, strict=True):
        alone = Contender(settings, 0)
        contest([alone], [io.BytesIO(month.read_bytes())])
        assert compare(alone.ledger, contender.ledger).movers == []
        assert alone.ledger.counts() == contender.ledger.counts()
        assert alone.ledger.spells == contender.ledger.spells


def test_classes_of_senders_are_those_of_their_closed_days(month: Path) -> None:
    senders, reader, classes, first = Senders(), EventReader(), [], []
    for events in reader.read(month.read_bytes()):
        seen = senders.of(events)
        classes += seen.classes.tolist()
        first += seen.first.tolist()
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


def trial(threshold: float, delayed: int) -> Trial:
    counts = Counts(1000, delayed, 0, 0, 1000, delayed)
    return Trial(threshold, 0, counts, counts, counts)


@given(st.lists(st.tuples(st.floats(0.05, 100), st.integers(0, 100)), min_size=1, max_size=8), st.floats(0, 0.1))
def test_the_choice_and_all_that_is_laxer_keep_the_budget(tried: list[tuple[float, int]], budget: float) -> None:
    trials = [trial(*pair) for pair in tried]
    chosen = choose(trials, budget)
    if chosen is None:
        assert max(trials, key=lambda found: found.threshold).choosing.days_share > budget
    else:
        laxer = [found for found in trials if found.threshold > chosen.threshold]
        assert all(found.choosing.days_share <= budget for found in (chosen, *laxer))


def test_a_site_gets_the_most_sensitive_threshold_that_its_mail_allows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "FINER", 2)
    status, answer = run("calibrate", "--budget", "0.1")
    assert status == 0
    trials = {found["threshold"]: found["choosing"]["sender_days_delayed_share"] for found in answer["trials"]}
    chosen = answer["chosen"]["threshold"]
    assert trials[chosen] <= 0.001
    stricter = [threshold for threshold in trials if threshold < chosen]
    assert stricter
    assert trials[max(stricter)] > 0.001
    assert len(trials) > len(calibration.COARSE)
    held = [row["delayed"] + row["held"] for row in answer["most_held"]]
    assert held == sorted(held, reverse=True)
    assert held[0] > 0


def test_a_recording_of_a_few_days_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "short.ndjson"
    short.write_text('{"ts":1764000000000,"ip":"192.0.2.1"}\n')
    assert main(["calibrate", str(short)]) == 2
    assert capsys.readouterr().err == (
        "tidegate: the events span 1 days: give at least 8, as most senders are new in the first ones (weeks are better)\n"
    )


def test_for_people_the_answers_are_tables(
    month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "COARSE", (1.0, 4.0))
    monkeypatch.setattr(calibration, "FINER", 1)
    for name, threshold in (("even", 1.0), ("strict", 0.25)):
        (tmp_path / f"{name}.toml").write_text(as_lines(threshold))
    pair = [f"--{which}={tmp_path / name}.toml" for which, name in (("old", "even"), ("new", "strict"))]
    assert main(["compare", *pair, str(month), "--budget", "0"]) == 1
    said = capsys.readouterr()
    for name in (*CLASSES, "all", "biggest movers"):
        assert f"\n{name}" in said.out
    assert "over the budget of 0 %" in said.err
    assert main(["calibrate", str(month), "--budget", "2"]) == 0
    out = capsys.readouterr().out
    assert out.endswith((as_lines(1.0), as_lines(4.0), as_lines(2.0)))


def test_columns_are_as_wide_as_they_need() -> None:
    lines = list(aligned(("name", "count", "share"), [("a", 1234567, "0.50%"), ("longer", None, "12.00%")]))
    assert lines == ["name        count   share", "a       1,234,567   0.50%", "longer          -  12.00%"]


@given(st.floats(0.06, 90).map(lambda threshold: float(f"{threshold:g}")))
def test_the_knob_as_an_option_is_the_knob_turned(threshold: float) -> None:
    name, value = as_option(threshold)
    assert load_settings(None, {}, {f"model.{name}": value}) == turned(load_settings(None, {}, {}), threshold)
