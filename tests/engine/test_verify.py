"""Decisions computed again are equal byte for byte; a changed or missing input event is found."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from engine.analysis.verification import verify
from engine.cli import main
from tests.months import write_month
from topics.decisions import decode_decision


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson", 0.12)


@pytest.fixture
def decided(month: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TIDEGATE_MODEL_LEARNING_DAYS", "0")
    path = tmp_path / "decisions.ndjson"
    assert main(["replay", str(month), "--decisions", str(path)]) == 0
    return path


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


@pytest.mark.parametrize("change", ["more messages", "gone"])
def test_a_changed_or_missing_event_is_found(
    change: str, month: Path, decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    throttles = [line for line in map(orjson.loads, decided.read_bytes().splitlines()) if line["verdict"] == "throttle"]
    decision = next(made for made in throttles if made["reason"] == "volume" and made["network"].endswith("/32"))
    ip, at_ms = decision["network"].removesuffix("/32"), decision["issued"]
    events = month.read_bytes().splitlines(keepends=True)
    own = [i for i, line in enumerate(events) if f'"{ip}"'.encode() in line and orjson.loads(line)["ts"] < at_ms]
    event = orjson.loads(events[own[-1]])
    changed = orjson.dumps({**event, "messages": event.get("messages", 1) + 7, "recipients": 20}) + b"\n"
    events[own[-1]] = changed if change == "more messages" else b""
    (tmp_path / "changed.ndjson").write_bytes(b"".join(events))
    capsys.readouterr()
    ran = main(["explain", ip, str(tmp_path / "changed.ndjson"), "--verify", "--decisions", str(decided)])
    said = capsys.readouterr().out
    assert ran == 1
    assert "so the input that changed or is gone lies in offsets" in said
    assert "its own events there:" in said


def test_what_differs_is_named_and_the_last_equal_one_bounds_it() -> None:
    release = {
        "network": "192.0.2.7/32", "verdict": "release", "issued": 5, "until": 5, "model": "m", "config": "c", "v": 1,
        "source": {"topic": "connections", "partition": 0, "offset": 5},
    }  # fmt: skip
    later = {**release, "issued": 9, "source": {"topic": "connections", "partition": 0, "offset": 9}}
    first, second = (decode_decision(orjson.dumps(fields)) for fields in (release, later))
    changed = decode_decision(orjson.dumps({**later, "until": 8}))
    found = verify([second, first], [first, changed])
    assert [(one.equal, one.since) for one in found] == [(True, -1), (False, 5)]
    assert [one.equal for one in verify([first], [])] == [False]


def test_nothing_to_verify_is_said(month: Path, decided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "203.0.113.250", str(month), "--verify", "--decisions", str(decided)]) == 2
    assert "no decision on 203.0.113.250 to verify" in capsys.readouterr().err
    assert main(["explain", "203.0.113.250", str(month), "--verify"]) == 2
    assert "--decisions FILE" in capsys.readouterr().err
