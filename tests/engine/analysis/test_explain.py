"""`tidegate explain` and `tidegate plot` show the engine's own numbers at the given time."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import orjson
import pytest

from engine.analysis.explanation import explain
from engine.analysis.timeline import TimelineReplay
from engine.cli import main
from engine.config.load import load_settings
from engine.detector.constants import SCALE_NAMES
from engine.pipeline import build
from engine.pipeline.replay import EventReader, Replay
from engine.state.inspect import row_of, standing
from engine.state.partition import Partition
from tests.support.months import write_month
from topics.columns.scan import DEFERRED, READY, empty_columns
from topics.decisions import Decision
from topics.keys import key_text
from topics.networks import key_of_network
from topics.partitioner import partition_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SETTINGS = load_settings(None, {}, {})
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson")


@pytest.fixture(scope="module")
def decisions(month: Path) -> list[Decision]:
    engine = build.replay(SETTINGS)
    return [decision for block in engine.run(io.BytesIO(month.read_bytes())) for decision in block]


@pytest.fixture
def run(month: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def answered(network: str, *options: str) -> Any:
        assert main(["explain", network, str(month), "--json", *options]) == 0
        return orjson.loads(capsys.readouterr().out)

    return answered


def replayed(month: Path, last_ms: int) -> Replay:
    engine = build.replay(SETTINGS, EventReader(last_ms))
    for _ in engine.run(io.BytesIO(month.read_bytes())):
        pass
    return engine


def owner(engine: Replay, network: str) -> Partition:
    return engine.partitions[partition_of(key_text(key_of_network(network)).encode(), len(engine.partitions))]


def send(partition: Partition, network: str, ts_ms: int, messages: int, outcome: int) -> int:
    """One more event; the number of throttles that it led to."""
    events = empty_columns(1)
    events.status[:] = READY
    events.offset[:], events.record_ms[:], events.ts_ms[:] = partition.applied_offset + 1, ts_ms, ts_ms
    events.key[:], events.messages[:], events.outcome[:] = key_of_network(network), messages, outcome
    return int((partition.apply(events, 0, 1)["kind"] == 1).sum())


def test_explanation_at_a_decision_has_the_numbers_of_the_decision(run: Run, decisions: list[Decision]) -> None:
    throttles = [decision for decision in decisions if decision.verdict == "throttle"]
    for decision in throttles[:: len(throttles) // 4]:
        answer = run(decision.network, "--at", str(decision.issued))
        if answer["decisions"][-1]["source"]["offset"] != decision.source.offset:
            continue  # another event of the same millisecond led to a decision
        assert answer["throttled"]
        assert (answer["until"], answer["reason"]) == (decision.until, decision.reason)
        assert answer["allowed"] == {
            "rate_per_min": pytest.approx(decision.rate_per_min, abs=1e-5), "burst": decision.burst
        }  # fmt: skip
        assert answer["past"]["active_days"] == decision.evidence["active_days"]
        for count in answer["counts"]:
            assert count["limit"] == decision.evidence["limits"].get(count["scale"])
            assert count["exceeded"] == (count["scale"] in decision.evidence["scales"])
        assert (
            decision.evidence["scales"] or decision.reason == "pool"
        )  # a member of a pool may be within its own limits


def test_standing_equals_the_row_after_an_event_of_no_messages(month: Path, decisions: list[Decision]) -> None:
    network, then_ms = decisions[0].network, decisions[0].issued
    for later_ms in (0, HOUR_MS, DAY_MS, 9 * DAY_MS):
        partition = owner(replayed(month, then_ms), network)
        number = row_of(partition, key_of_network(network))
        before = partition.state.rows[number].copy()
        projected = standing(partition, number, then_ms + later_ms)[0]
        assert partition.state.rows[number] == before
        send(partition, network, then_ms + later_ms, 0, DEFERRED)
        row = partition.state.rows[number]
        assert np.array_equal(projected["counter"], row["counter"].astype(float))
        assert np.array_equal(projected["memory"], row["memory"].astype(float))
        assert projected["active_days"] == row["active_days"]


@pytest.mark.parametrize("extra", [0, 1])
def test_headroom_is_passed_by_two_more_messages(month: Path, decisions: list[Decision], extra: int) -> None:
    engine = replayed(month, decisions[len(decisions) // 2].issued)
    tried = 0
    for partition in engine.partitions:
        for number in range(0, partition.keys, max(1, partition.keys // 5)):
            row = partition.state.rows[number]
            network_key = int(row["key"])
            explanation = explain(partition, network_key, int(partition.state.site["clock_ms"][0]), [], "")
            headroom = explanation.headroom()
            assert headroom is not None
            if explanation.throttle is None and not any(count.exceeded for count in explanation.counts):
                throttles = send(partition, explanation.network, explanation.at_ms, headroom + 2 * extra, 0)
                assert throttles == extra
                tried += 1
    assert tried > 10


def test_explanation_at_a_time_ignores_later_events(month: Path, tmp_path: Path, decisions: list[Decision]) -> None:
    decision = decisions[len(decisions) // 2]
    at_ms = decision.issued + HOUR_MS
    key = key_of_network(decision.network)
    lines = month.read_bytes().splitlines(keepends=True)
    cut = b"".join(line for line in lines if orjson.loads(line)["ts"] <= at_ms)
    assert len(cut) < len(month.read_bytes())
    answers = []
    for text, last_ms in ((month.read_bytes(), at_ms), (cut, 1 << 60)):
        engine = build.replay(SETTINGS, EventReader(min(last_ms, 253_402_300_799_999)))
        made = [d for block in engine.run(io.BytesIO(text)) for d in block if d.network == decision.network]
        answers.append(explain(owner(engine, decision.network), key, at_ms, made, "").as_json())
    assert answers[0] == answers[1]


def test_explain_prints_reason_end_and_rate(
    month: Path, decisions: list[Decision], capsys: pytest.CaptureFixture[str]
) -> None:
    decision = next(made for made in decisions if made.verdict == "throttle")
    assert main(["explain", decision.network.partition("/")[0], str(month), "--at", str(decision.issued + 1000)]) == 0
    printed = capsys.readouterr().out
    assert f"{decision.network} at " in printed
    for part in (
        "throttled until",
        "Decision: ",
        decision.reply["tag"],
        "Allowed: ",
        "History: ",
        "Counts: ",
        "Release: ",
    ):
        assert part in printed
    for scale in SCALE_NAMES:
        assert f"\n         {scale} " in printed


def test_explain_of_an_unknown_sender_has_no_history(run: Run) -> None:
    answer = run("100.64.0.9")
    assert (answer["throttled"], answer["past"], answer["counts"], answer["decisions"]) == (False, None, [], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "nobody"], "give an IPv4 or IPv6 address"),
        (["explain", "192.0.2.0/24"], "neither an IPv4 /32 nor an IPv6 /64"),
        (["explain", "192.0.2.7"], "no events given"),
        (["explain", "192.0.2.7", "EVENTS", "--at", "yesterday"], "no time 'yesterday'"),
        (["explain", "192.0.2.7", "EVENTS", "--at", "1970-01-02"], "no event up to --at"),
        (["plot", "192.0.2.7", "--from", "EVENTS", "--scale", "3h"], "unknown scale '3h'"),
        (["plot", "100.64.0.9", "--from", "EVENTS"], "sent nothing in"),
        (["plot", "192.0.2.7", "--from", "topic"], "no Kafka given"),
    ],
)
def test_unanswerable_command_is_a_one_line_error(
    month: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(month) if word == "EVENTS" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_plot_shows_every_throttle_period_and_all_messages(
    month: Path, decisions: list[Decision], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = [made for made in decisions if made.verdict == "throttle"][-1].network
    out = tmp_path / "picture.svg"
    assert main(["plot", network, "--from", str(month), "--out", str(out)]) == 0
    root = ElementTree.fromstring(out.read_text())
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    replay = TimelineReplay(SETTINGS, key_of_network(network))
    for events in EventReader().read(month.read_bytes()):
        replay.apply_site(events)
    timeline = replay.timeline()
    assert [made.source for made in timeline.decisions] == [d.source for d in decisions if d.network == network]
    assert texts[0] == network
    assert f"{timeline.samples.messages.sum():,} messages, {len(timeline.throttle_periods)} throttle period" in texts[1]
    shaded = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("fill") == "#f4d6cf"]
    assert len(shaded) == 2 * len(timeline.throttle_periods) + 1
    lines = [e.get("points", "") for e in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 3
    for x, y in (point.split(",") for line in lines for point in line.split()):
        assert 70 <= float(x) <= 960
        assert 262 <= float(y) <= 480


def test_explain_on_a_watching_site_reports_it(
    run: Run, month: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("192.0.2.1")["decides"]
    monkeypatch.setenv("TIDEGATE_MODEL_SENSITIVITY", "off")
    assert not run("192.0.2.1")["decides"]
    assert main(["explain", "192.0.2.1", str(month)]) == 0
    assert "Site: it learns or only watches" in capsys.readouterr().out
