"""Shadow decisions in options, texts, the decision log, metrics, explanations, replays and comparisons."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.analysis.backtest import ConfigurationCandidate, backtest, newer
from engine.analysis.comparison import compare
from engine.analysis.explanation import explain, in_lines
from engine.cli import main
from engine.cli.decisions import line_of
from engine.config.load import load_settings
from engine.decisions.shadow import ShadowRules, shadow_rules
from engine.metrics.exposition import Histogram
from engine.pipeline import build
from engine.web.decision_log import DecisionLog
from engine.web.health_checks import find_problems
from engine.worker.metrics import samples
from engine.worker.status import status_of
from tests.support.bench import COMPOSER, EVENTS, Bench, batch_of
from tests.support.decision_records import A, B, C, active_networks, decision, decision_record
from tests.support.months import write_month
from tests.support.sequences import START_MS, Event, far_apart
from topics.columns.scan import ACCEPTED
from topics.decisions import OVERRIDE, RELEASE, SHADOW, THROTTLE, Decision, decode_decision, encode_decision
from topics.errors import OperatorError
from topics.networks import network_text
from topics.words import decision_text

EVERYTHING = ShadowRules(everything=True)


def shaded(network: str, offset: int) -> Decision:
    return replace(decision(network, offset), verdict=SHADOW)


def test_shadow_rules_follow_the_options() -> None:
    given = {"model.shadow_reasons": "pool, volume", "model.shadow_networks": "192.0.2.0/24,2001:db8:1:2::7/128"}
    shadow = build.shadow(load_settings(None, {}, given))
    assert str(shadow) == "pool, volume, 192.0.2.0/24, 2001:db8:1:2::/64"
    assert build.shadow(load_settings(None, {}, {"model.mode": "shadow"})) == EVERYTHING
    assert not str(build.shadow(build.enforcing(load_settings(None, {}, given))))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("shadow_reasons", "override", "give a comma-separated list of volume, probation, pool"),
        ("shadow_networks", "192.0.2.1/24", "give networks such as 192.0.2.0/24"),
        ("mode", "off", "enforce"),
    ],
)
def test_wrong_option_is_refused_with_a_remedy(name: str, value: str, wanted: str) -> None:
    with pytest.raises(OperatorError, match=wanted):
        load_settings(None, {}, {f"model.{name}": value})


def test_shadow_options_change_the_configuration_hash() -> None:
    plain, chosen = load_settings(None, {}, {}), load_settings(None, {}, {"model.shadow_reasons": "pool"})
    assert build.composer(plain).config != build.composer(chosen).config
    assert build.composer(build.enforcing(chosen)).config == build.composer(plain).config


@pytest.mark.parametrize(
    ("network", "verdict"),
    [
        ("192.0.2.7/32", SHADOW),
        ("192.0.0.0/16", SHADOW),  # around it
        ("192.0.3.7/32", THROTTLE),
        ("2001:db8:1:2::/64", SHADOW),
        ("2001:db8::/32", SHADOW),
        ("2001:db8:1:3::/64", THROTTLE),
    ],
)
def test_decision_is_in_shadow_if_it_shares_an_address_with_a_network(network: str, verdict: str) -> None:
    shadow = shadow_rules(everything=False, reasons=[], networks=["192.0.2.0/24", "2001:db8:1:2::7/128"])
    assert shadow.verdict(network, "volume") == verdict


def test_shadow_decision_decodes_to_itself_and_says_what_would_happen() -> None:
    made = shaded("192.0.2.7/32", 4)
    assert decode_decision(encode_decision(made)) == made
    assert "; shadow: would be throttled to 30 per hour until" in decision_text(made)
    assert "shadow 4.7.501 AS20000001" in line_of(made)


def test_decision_log_shows_shadow_decisions_and_watches_only_live_ones() -> None:
    log = DecisionLog("", {}, ["192.0.2.0/24"])
    log.apply([decision_record(made) for made in (decision(A, 1), shaded(B, 2), shaded(C, 3))])
    assert active_networks(log) == [C, B, A]
    assert active_networks(log, search="shadow") == [C, B]
    assert list(log.watched_throttles(START_MS)) == [A]

    log.apply([decision_record(shaded(A, 4)), decision_record(decision(C, 5, RELEASE))])
    assert active_networks(log, search="shadow") == [A, B]
    assert not log.watched_throttles(START_MS)


async def test_shadow_decisions_are_counted_separately() -> None:
    live, shade = Bench(), Bench()
    await shade.reconfigure(replace(COMPOSER, shadow=EVERYTHING))
    for bench in (live, shade):
        await bench.apply(batch_of(EVENTS[:1000]))
    ours, theirs = (status_of(bench.applier, lambda number: 100) for bench in (shade, live))
    assert (ours["shadow"], theirs["shadow"]) == ("everything", "")
    assert sum(theirs["since_start"]["reasons"].values()) > 10
    assert ours["since_start"]["in_shadow"] == theirs["since_start"]["reasons"]
    assert (ours["since_start"]["reasons"], ours["since_start"]["throttles"]) == ({}, 0)
    assert ours["since_start"]["releases"] == theirs["since_start"]["releases"]
    figures = {(one.metric.name, one.labels): one.value for one in samples(ours, Histogram(), {})}
    wanted = theirs["since_start"]["reasons"]["probation"]
    assert figures["tidegate_shadow_decisions", ("probation",)] == wanted
    assert (figures["tidegate_throttles", ("probation",)], figures["tidegate_in_shadow", ()]) == (0, 1)


async def test_budget_problem_mentions_shadow_mode() -> None:
    bench = Bench()
    await bench.apply(batch_of(EVENTS[:100]))
    status = status_of(bench.applier, lambda number: 100)
    status["partitions"]["2"]["established"] |= {"share": 0.5}
    assert "deferred 50.00% of" in find_problems(status)[0]
    assert (
        "deferred, or would have deferred outside shadow mode, 50.00% of"
        in find_problems({**status, "shadow": "pool"})[0]
    )


def burst(first: int, at_ms: int, key: int = far_apart(1)) -> list[Event]:
    return [Event(first + i, at_ms + i, at_ms + i, key, 500, ACCEPTED) for i in range(4)]


async def test_reload_into_shadow_withdraws_throttles_and_out_of_it_publishes_within_half_a_term() -> None:
    bench, network = Bench(), network_text(far_apart(1))
    await bench.apply(batch_of(burst(0, START_MS)))
    first = bench.publisher.decisions[-1]
    assert first.verdict == THROTTLE

    assert await bench.reconfigure(replace(COMPOSER, shadow=EVERYTHING)) == 1
    withdrawn = bench.publisher.decisions[-1]
    assert (withdrawn.network, withdrawn.verdict, withdrawn.reason) == (network, RELEASE, OVERRIDE)
    assert "was put in shadow by the configuration: everything" in decision_text(withdrawn)

    term_ms = first.until - first.issued
    await bench.apply(batch_of(burst(4, START_MS + term_ms // 2 + 60_000)), 4)
    in_shadow = bench.publisher.decisions[-1]
    assert (in_shadow.network, in_shadow.verdict) == (network, SHADOW)

    assert await bench.reconfigure(COMPOSER) == 0
    await bench.apply(batch_of(burst(8, in_shadow.issued + term_ms // 2 + 60_000)), 8)
    live = bench.publisher.decisions[-1]
    assert (live.network, live.verdict) == (network, THROTTLE)
    assert live.issued - in_shadow.issued < term_ms // 2 + 2 * 60_000


async def test_explanation_of_a_shadow_throttle_says_that_mail_passes() -> None:
    bench = Bench()
    await bench.reconfigure(replace(COMPOSER, shadow=EVERYTHING))
    await bench.apply(batch_of(burst(0, START_MS)))
    made = bench.publisher.decisions
    found = explain(bench.partition, far_apart(1), START_MS + 10, made, "")
    assert (found.throttled, found.as_json()["throttled"], found.as_json()["shadow"]) == (False, False, True)
    assert ": in shadow, so it passes; it would be throttled until" in next(in_lines(found))
    around = replace(made[-1], network=network_text(far_apart(1), 16), verdict=THROTTLE)
    wider = explain(bench.partition, far_apart(1), START_MS + 10, [*made, around], "")
    assert wider.throttled
    assert wider.throttle is not None
    assert wider.throttle.decision == around


def test_recorded_decisions_are_filtered_as_readers_do() -> None:
    first, again, older = decision(A, 5), decision(A, 5), decision(A, 4)
    ordered = replace(decision(A, 5, RELEASE), reason=OVERRIDE)
    late = decision(A, 5, RELEASE)
    record = [first, again, late, older, shaded(A, 5), ordered, first, shaded(A, 6), decision(B, 1)]
    assert list(newer(record)) == [first, shaded(A, 5), ordered, shaded(A, 6), decision(B, 1)]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson")


Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "live.toml").write_text("")
    (tmp_path / "shadow.toml").write_text('[model]\nmode = "shadow"\n')
    (tmp_path / "partly.toml").write_text('[model]\nshadow_reasons = "probation"\n')

    def answered(*arguments: str) -> tuple[int, Any]:
        status = main([*arguments, str(month), "--json"])
        return status, orjson.loads(capsys.readouterr().out)

    return answered


def replayed(month: Path, tmp_path: Path, name: str) -> list[Decision]:
    assert (
        main(["--config", str(tmp_path / f"{name}.toml"), "replay", str(month), "--decisions", f"{name}.ndjson"]) == 0
    )
    return [decode_decision(line) for line in (tmp_path / f"{name}.ndjson").read_bytes().splitlines()]


def test_replay_in_shadow_differs_only_in_verdict_and_counts(
    run: Run, month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = replayed(month, tmp_path, "live")
    assert "in shadow" not in capsys.readouterr().err
    shadow = replayed(month, tmp_path, "shadow")
    count = sum(made.verdict == THROTTLE for made in live)
    assert f": 0 throttles, {count:,} in shadow, " in capsys.readouterr().err
    renamed = {RELEASE: RELEASE, THROTTLE: SHADOW}
    assert [replace(made, verdict=renamed[made.verdict], config="") for made in live] == [
        replace(made, config="") for made in shadow
    ]


def test_compare_of_shadow_and_live_reports_the_deferrals_of_live(run: Run) -> None:
    status, answer = run("compare", "--old", "shadow.toml", "--new", "live.toml")
    assert status == 0
    assert (answer["all"]["old"]["delayed"], answer["decisions"]["old"]) == (0, 0)
    assert answer["all"]["new"]["delayed"] > 0
    assert (answer["throttle_periods"]["lost"], answer["throttle_periods"]["kept"]) == (0, 0)


def test_compare_of_recorded_decisions_equals_their_replays(run: Run, month: Path, tmp_path: Path) -> None:
    replayed(month, tmp_path, "partly")
    status, answer = run("compare", "--shadow", "--decisions", "partly.ndjson")
    assert (status, answer["compared"]) == (0, ["live", "with shadow"])
    chosen = [load_settings(tmp_path / f"{name}.toml", {}, {}) for name in ("partly", "live")]
    partly, live = candidates = [ConfigurationCandidate(settings, 0) for settings in chosen]
    backtest(candidates, [io.BytesIO(month.read_bytes())])
    wanted = compare(partly.collateral, live.collateral).as_json()
    assert answer["all"]["old"]["delayed"] > 0
    assert answer["throttle_periods"]["gained"] > 0
    assert {name: answer[name] for name in wanted} == orjson.loads(orjson.dumps(wanted))


def test_compare_prints_tables_of_live_and_shadow(
    run: Run, month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed(month, tmp_path, "shadow")
    assert main(["compare", "--shadow", "--decisions", "shadow.ndjson", str(month), "--budget", "0"]) == 1
    shown = capsys.readouterr().out
    assert "delayed: live  with shadow" in shown
    assert "messages live -> with shadow" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--shadow", "--old", "live.toml"), "leave out --old and --new"),
        (("--shadow", "--decisions", "x.ndjson"), "give --decisions FILE and event files, or neither"),
        (("--shadow",), "no input: give --decisions FILE and event files, or --bootstrap HOST:PORT"),
        (("--old", "live.toml"), "no input: give --old A.toml --new B.toml and event files, or --shadow"),
    ],
)
def test_wrong_arguments_of_compare_are_one_line(
    arguments: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "live.toml").write_text("")
    placed = [str(tmp_path / part) if part.endswith(".toml") else part for part in arguments]
    assert main(["compare", *placed]) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert shown.count("\n") == 1


def test_compare_of_decisions_without_shadow_is_an_error(
    run: Run, month: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed(month, tmp_path, "live")
    capsys.readouterr()
    assert main(["compare", "--shadow", "--decisions", "live.ndjson", str(month)]) == 2
    assert "is in shadow: nothing to compare" in capsys.readouterr().err
