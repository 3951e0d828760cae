"""Decisions computed again are equal byte for byte; a changed, missing or displaced input event is named."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from engine.analysis.findings import OTHERS, OWN, Answer, finding
from engine.analysis.recomputing import OwnEvents
from engine.analysis.verify import turns, verify
from engine.cli import main
from engine.cli.verify import decisions_of, from_files
from engine.config.load import load_settings
from tests.support.months import write_month
from topics.decisions import Decision, decode_decision
from topics.keys import key_of

SETTINGS = load_settings(None, {}, {"model.learning_days": 0})


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson", 0.12)


@pytest.fixture(scope="module")
def decided(month: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decided") / "decisions.ndjson"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_MODEL_LEARNING_DAYS", "0")
        assert main(["replay", str(month), "--decisions", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def _decides_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_LEARNING_DAYS", "0")


def test_a_thousand_decisions_of_a_replay_are_equal(
    month: Path, decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = decided.read_bytes().splitlines(keepends=True)
    chosen = random.Random(1).sample(lines, 1000)
    (tmp_path / "chosen.ndjson").write_bytes(b"".join(chosen))
    capsys.readouterr()
    assert main(["explain", "all", str(month), "--verify", "--decisions", str(tmp_path / "chosen.ndjson")]) == 0
    said = capsys.readouterr().out
    assert said == "1,000 of 1,000 decisions are what the events lead to, byte for byte\n"


@dataclass(frozen=True)
class Case:
    """A decision, its sender's events, and where in the file they are."""

    ip: str
    decision: Decision
    own: OwnEvents
    lines: list[bytes]
    places: list[int]

    @property
    def before(self) -> int:
        """How many of the sender's events led to it."""
        return int(np.searchsorted(self.own.offset, self.decision.source.offset))


@pytest.fixture(scope="module")
def case(month: Path, decided: Path) -> Case:
    """The first throttle of a sender that sends for an hour and more before, an accepted message at least each time."""
    decisions, lines = decisions_of(str(decided)), month.read_bytes().splitlines(keepends=True)
    for decision in decisions:
        if decision.reason != "volume" or not decision.network.endswith("/32"):
            continue
        ip = decision.network.removesuffix("/32")
        answer = from_files(SETTINGS, key_of(ip), [str(month)], decisions)
        assert all(one.equal for one in answer.found)
        assert answer.own is not None
        places = [i for i, line in enumerate(lines) if f'"{ip}"'.encode() in line]
        assert len(places) == len(answer.own.offset)
        found = Case(ip, decision, answer.own, lines, places)
        recent = answer.own.at_ms[max(0, found.before - 8) : found.before]
        if answer.found[0].decision is not decision or len(recent) < 8 or recent[0] > decision.issued - 120_000:
            continue
        if not answer.own.outcome[found.before - 8 : found.before].any():
            return found
    pytest.fail("no such sender in the month")


def told(
    case: Case, lines: list[bytes], decided: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> dict[str, Any]:
    """What is said of the case's decision when the lines are these; the whole answer's other fields beside it."""
    (folder / "changed.ndjson").write_bytes(b"".join(lines))
    capsys.readouterr()
    command = ["explain", case.ip, str(folder / "changed.ndjson"), "--verify", "--decisions", str(decided)]
    assert main(command) == 1
    assert "byte for byte" in capsys.readouterr().out
    assert main([*command, "--json"]) == 1
    said = orjson.loads(capsys.readouterr().out)
    assert said["network"] == case.ip
    (one,) = (one for one in said["differ"] if one["offset"] == case.decision.source.offset)
    return {**said, **one}


def with_more(line: bytes, messages: int) -> bytes:
    event = orjson.loads(line)
    return orjson.dumps({**event, "messages": event.get("messages", 1) + messages}) + b"\n"


@pytest.mark.parametrize("back", [1, 6])
def test_a_changed_event_is_named(
    back: int, case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    number, lines = case.before - back, case.lines.copy()
    lines[case.places[number]] = with_more(lines[case.places[number]], 7)
    said = told(case, lines, decided, capsys, tmp_path)
    assert (said["changed"], said["change"]["messages"]) == (["own events"], 7)
    offset, messages = int(case.own.offset[number]), int(case.own.messages[number])
    assert (offset, messages + 7) in [(event["offset"], event["messages"]) for event in said["suspects"]]
    assert said["offsets"] == [said["suspects"][0]["offset"], said["suspects"][-1]["offset"]]
    assert said["suspects"][-1]["at"] - said["suspects"][0]["at"] <= 2 * said["change"]["give_ms"]
    assert said["came_or_went"] == []


def test_a_missing_event_is_missed_where_it_was(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    number, lines = case.before - 2, case.lines.copy()
    lines[case.places[number]] = b""
    said = told(case, lines, decided, capsys, tmp_path)
    assert (said["changed"], said["change"]["messages"]) == (["own events"], -int(case.own.messages[number]))
    offset = int(case.own.offset[number])
    assert said["offsets"][0] <= offset <= said["offsets"][1]
    assert said["offsets"][1] - said["offsets"][0] <= case.own.offset[number + 1] - case.own.offset[number - 1]
    (turn,) = said["came_or_went"]
    assert turn["events"] == -1
    assert turn["offsets"][0] <= offset <= turn["offsets"][1]


def test_events_in_another_order_are_told_from_changed_ones(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second, lines = case.places[case.before - 8], case.places[case.before - 1], case.lines.copy()
    lines[first], lines[second] = lines[second], lines[first]
    said = told(case, lines, decided, capsys, tmp_path)
    assert (said["changed"], said["change"]) == (["own events"], None)
    swapped = [int(case.own.offset[case.before - 8]), int(case.own.offset[case.before - 1])]
    assert said["offsets"][0] <= swapped[0] < swapped[1] <= said["offsets"][1] == case.decision.source.offset
    assert {event["offset"] for event in said["events"]} >= set(swapped)
    assert said["came_or_went"] == []


def test_another_configuration_is_named(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_SENSITIVITY", "high")
    said = told(case, case.lines, decided, capsys, tmp_path)
    assert said["changed"] == ["configuration"]
    assert said["config"] != case.decision.config
    assert (said["suspects"], said["change"]) == (None, None)


def fields(network: str, offset: int, **more: Any) -> dict[str, Any]:
    return {
        "network": network, "verdict": "release", "issued": offset, "until": 5, "model": "peak-memory/2", "config": "c", "v": 1,
        "source": {"topic": "connections", "partition": 0, "offset": offset}, **more,
    }  # fmt: skip


def decision(network: str, offset: int, **more: Any) -> Decision:
    return decode_decision(orjson.dumps(fields(network, offset, **more)))


def test_the_last_equal_one_bounds_what_differs() -> None:
    first, second = decision("192.0.2.7/32", 5), decision("192.0.2.7/32", 9)
    changed = decision("192.0.2.7/32", 9, until=8)
    found = verify([second, first], [first, changed])
    assert [(one.equal, one.since) for one in found] == [(True, -1), (False, 5)]
    assert [one.equal for one in verify([first], [])] == [False]


def test_events_that_came_or_went_lie_where_decisions_begin_to_move() -> None:
    given = [decision(f"192.0.2.{offset}/32", offset) for offset in (10, 20, 30, 40)]
    moved = {10: 10, 20: 20, 30: 29, 40: 41}
    again = [decision(f"192.0.2.{at}/32", now, issued=at) for at, now in moved.items()]
    found = verify(given, again)
    assert [(turn.since, turn.until, turn.events) for turn in turns(found)] == [(20, 30, -1), (30, 40, 2)]
    assert [one.only_moved for one in found] == [False, False, True, True]


@pytest.mark.parametrize(("counter", "limit", "changed"), [(301.0, 290.0, OWN), (300.0, 280.0, OTHERS)])
def test_limits_alone_are_other_senders_doing(counter: float, limit: float, changed: str) -> None:
    def made(counter: float, limit: float) -> Decision:
        evidence = {"counters": {"6h": counter, "24h": counter}, "limits": {"6h": limit}}
        return decision("192.0.2.7/32", 5, verdict="throttle", reason="volume", reply={}, evidence=evidence)

    (one,) = verify([made(300.0, 290.0)], [made(counter, limit)])
    assert finding(one, Answer([one], [], None, 0, "c")).changed == (changed,)


def test_nothing_to_verify_is_said(month: Path, decided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "203.0.113.250", str(month), "--verify", "--decisions", str(decided)]) == 2
    assert "no decision on 203.0.113.250 to verify" in capsys.readouterr().err
    assert main(["explain", "203.0.113.250", str(month), "--verify"]) == 2
    assert "--decisions FILE" in capsys.readouterr().err


def test_another_count_of_partitions_is_refused(
    month: Path, decided: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_TOPICS_PARTITIONS", "2")
    assert main(["explain", "all", str(month), "--verify", "--decisions", str(decided)]) == 2
    assert (
        "where it can't be from with topics.partitions = 2: give the configuration of then" in capsys.readouterr().err
    )
