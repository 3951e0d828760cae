"""Recomputed decisions are equal byte for byte; a difference names the changed input and the offsets it lies in."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.analysis.verify import offset_shifts, verify
from engine.cli import main
from engine.cli.sources import decisions_of
from engine.config.load import load_settings
from tests.support.months import write_month
from topics.decisions import Decision, decode_decision
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

PARTITIONS = load_settings(None, {}, {}).topics.partitions


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
def _no_learning_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_LEARNING_DAYS", "0")


def test_verify_of_a_replay_finds_all_decisions_equal(
    month: Path, decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = decided.read_bytes().splitlines(keepends=True)
    chosen = random.Random(1).sample(lines, 1000)
    (tmp_path / "chosen.ndjson").write_bytes(b"".join(chosen))
    capsys.readouterr()

    status = main(["explain", "all", str(month), "--verify", "--decisions", str(tmp_path / "chosen.ndjson")])

    assert status == 0
    assert capsys.readouterr().out == "1,000 of 1,000 decisions are equal byte for byte\n"


@dataclass(frozen=True)
class Case:
    """A decision, and its sender's events before it as (line of the file, offset in the partition)."""

    ip: str
    decision: Decision
    lines: list[bytes]
    before: list[tuple[int, int]]


@pytest.fixture(scope="module")
def case(month: Path, decided: Path) -> Case:
    """The first decision on a sender that had eight events, none deferred, over at least two minutes before it."""
    lines = month.read_bytes().splitlines(keepends=True)
    sent, dealt = dict[str, list[tuple[int, int]]](), [0] * PARTITIONS
    for number, line in enumerate(lines):
        ip = str(orjson.loads(line)["ip"])
        partition = partition_of(key_text(key_of(ip)).encode(), PARTITIONS)
        sent.setdefault(ip, []).append((number, dealt[partition]))
        dealt[partition] += 1
    seen = set[str]()
    for decision in decisions_of(str(decided)):
        ip, is_first = decision.network.removesuffix("/32"), decision.network not in seen
        seen.add(decision.network)
        if decision.reason != "volume" or not is_first or ip not in sent:
            continue
        before = [(number, offset) for number, offset in sent[ip] if offset < decision.source.offset]
        recent = [orjson.loads(lines[number]) for number, _ in before[-8:]]
        is_accepted = all(event.get("outcome", "accepted") == "accepted" for event in recent)
        if len(recent) == 8 and is_accepted and recent[0]["ts"] <= decision.issued - 120_000:
            return Case(ip, decision, lines, before)
    pytest.fail("no such sender in the month")


def verified(case: Case, lines: list[bytes], decided: Path, capsys: pytest.CaptureFixture[str], folder: Path) -> Any:
    """Verify the case's network against other lines; the JSON result with the case's decision under `one`."""
    (folder / "changed.ndjson").write_bytes(b"".join(lines))
    command = ["explain", case.ip, str(folder / "changed.ndjson"), "--verify", "--decisions", str(decided)]
    capsys.readouterr()
    assert main(command) == 1
    assert "byte for byte" in capsys.readouterr().out
    assert main([*command, "--json"]) == 1
    result = orjson.loads(capsys.readouterr().out)
    assert result["network"] == case.ip
    (one,) = (found for found in result["differ"] if found["offset"] == case.decision.source.offset)
    return {**result, "one": one}


def with_more(line: bytes, messages: int) -> bytes:
    event = orjson.loads(line)
    return orjson.dumps({**event, "messages": event.get("messages", 1) + messages}) + b"\n"


@pytest.mark.parametrize("back", [1, 6])
def test_verify_after_a_changed_event_names_events_and_offsets(
    back: int, case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (number, offset), lines = case.before[-back], case.lines.copy()
    lines[number] = with_more(lines[number], 7)

    result = verified(case, lines, decided, capsys, tmp_path)

    assert result["one"]["changed"] == ["events"]
    assert result["one"]["offsets"][0] <= offset <= result["one"]["offsets"][1] == case.decision.source.offset
    assert result["one"]["differences"]
    assert result["shifts"] == []


def test_verify_after_a_missing_event_bounds_it_by_offset_shifts(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (number, offset), lines = case.before[-2], case.lines.copy()
    lines[number] = b""

    result = verified(case, lines, decided, capsys, tmp_path)

    assert result["one"]["changed"] == ["events"]
    assert result["one"]["offsets"][0] <= offset <= result["one"]["offsets"][1]
    (shift,) = result["shifts"]
    assert shift["events"] == -1
    assert shift["offsets"][0] <= offset <= shift["offsets"][1]


def test_verify_after_two_events_swapped_names_events_without_a_shift(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (first, early), (second, late), lines = case.before[-8], case.before[-1], case.lines.copy()
    lines[first], lines[second] = lines[second], lines[first]

    result = verified(case, lines, decided, capsys, tmp_path)

    assert result["one"]["changed"] == ["events"]
    assert result["one"]["offsets"][0] <= early < late <= result["one"]["offsets"][1] == case.decision.source.offset
    assert result["shifts"] == []


def test_verify_under_another_configuration_names_the_configuration(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_SENSITIVITY", "high")

    result = verified(case, case.lines, decided, capsys, tmp_path)

    assert result["one"]["changed"] == ["configuration"]
    assert result["config"] != case.decision.config


def test_verify_of_another_models_decisions_names_the_model(
    case: Case, decided: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    older = tmp_path / "older.ndjson"
    older.write_bytes(decided.read_bytes().replace(case.decision.model.encode(), b"peak-memory/1"))

    result = verified(case, case.lines, older, capsys, tmp_path)

    assert result["one"]["changed"] == ["model"]


def decision(network: str, offset: int, **more: Any) -> Decision:
    return decode_decision(orjson.dumps({
        "network": network, "verdict": "release", "issued": offset, "until": 5, "model": "peak-memory/2", "config": "c", "v": 1,
        "source": {"topic": "connections", "partition": 0, "offset": offset}, **more,
    }))  # fmt: skip


def test_different_decision_is_bounded_by_the_last_equal_one_of_its_network() -> None:
    first, second = decision("192.0.2.7/32", 5), decision("192.0.2.7/32", 9)
    changed = decision("192.0.2.7/32", 9, until=8)

    results = verify([second, first], [first, changed])

    assert [(result.is_equal, result.after_offset) for result in results] == [(True, -1), (False, 5)]


def test_decision_without_a_recomputed_one_is_different() -> None:
    (result,) = verify([decision("192.0.2.7/32", 5)], [])

    assert result.is_different
    assert not result.is_equal


def test_override_is_not_verified() -> None:
    assert verify([decision("192.0.2.7/32", 5, reason="override")], []) == []


def test_added_and_missing_events_lie_where_offsets_begin_to_shift() -> None:
    published = [decision(f"192.0.2.{offset}/32", offset) for offset in (10, 20, 30, 40)]
    shifted = {10: 10, 20: 20, 30: 29, 40: 41}
    recomputed = [decision(f"192.0.2.{was}/32", now, issued=was) for was, now in shifted.items()]

    results = verify(published, recomputed)

    assert [(shift.after, shift.until, shift.events) for shift in offset_shifts(results)] == [(20, 30, -1), (30, 40, 2)]
    assert [result.is_only_shifted for result in results] == [False, False, True, True]


def test_verify_of_a_network_without_decisions_is_an_error(
    month: Path, decided: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "203.0.113.250", str(month), "--verify", "--decisions", str(decided)]) == 2
    assert "no decision on 203.0.113.250 to verify" in capsys.readouterr().err


def test_verify_of_events_without_decisions_is_an_error(month: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "203.0.113.250", str(month), "--verify"]) == 2
    assert "--decisions FILE" in capsys.readouterr().err


def test_verify_with_another_number_of_partitions_is_an_error(
    month: Path, decided: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_TOPICS_PARTITIONS", "2")

    assert main(["explain", "all", str(month), "--verify", "--decisions", str(decided)]) == 2
    assert (
        "which is impossible with topics.partitions = 2: give the configuration of that time" in capsys.readouterr().err
    )
