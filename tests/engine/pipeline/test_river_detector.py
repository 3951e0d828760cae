"""river as a second opinion: any of its pipelines, through the same replay, with a bound; and no worker ever runs it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from river import anomaly, compose, preprocessing

from engine.analysis.calibration import as_lines
from engine.cli import main
from engine.config.load import Settings, load_settings
from engine.detector.throttle import Policy
from engine.pipeline import build
from engine.pipeline.replay import EventReader, Replay
from engine.pipeline.river_detector import WindowPartition, gaussian, half_space_trees
from topics.decisions import Decision, decode_decision, encode_decision

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_764_000_000_000 // DAY_MS * DAY_MS
RIVER = load_settings(None, {}, {"model.detector": "river", "topics.partitions": 2})


def scaled_trees() -> compose.Pipeline:
    return compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=3, window_size=8, n_trees=3))


def mail(steady: int = 60) -> list[bytes]:
    """Two senders of 1 to 3 messages every ten minutes; then one of them sends 500 within one window, and both go on."""
    lines = []
    for number in range(steady + 5):
        for address in ("192.0.2.7", "2001:db8::1"):
            at_ms = START_MS + number * 600_000 + 1000
            burst = 500 if number == steady and address == "192.0.2.7" else 1 + number % 3
            lines.append(b'{"ts":%d,"ip":"%s","messages":%d}\n' % (at_ms, address.encode(), burst))
    return lines


def decided(lines: list[bytes], settings: Settings = RIVER, block: int = 1 << 14) -> list[Decision]:
    engine = build.replay(settings)
    reader, found = EventReader(), []
    for first in range(0, len(lines), block):
        for events in reader.read(b"".join(lines[first : first + block])):
            found += engine.decide(events)
    return found


def test_burst_is_throttled_after_its_window() -> None:
    (found,) = decided(mail())
    assert found.network == "192.0.2.7/32"
    assert found.issued == START_MS + 61 * 600_000 + 1000
    assert found.until == found.issued + 6 * 600_000
    assert found.evidence["messages"] == 500
    assert found.rate_per_min == pytest.approx(found.evidence["mean"] / 10, abs=1e-3)
    assert found.model == "river/gaussian"
    assert decode_decision(encode_decision(found)) == found


@examples(max_examples=20)
@given(st.integers(1, 40))
def test_block_size_does_not_change_decisions(block: int) -> None:
    assert decided(mail(), block=block) == decided(mail())


@pytest.mark.parametrize("name", ["half-space-trees", f"{__name__}:scaled_trees"])
def test_every_pipeline_makes_decisions(name: str) -> None:
    settings = replace(RIVER, river=replace(RIVER.river, pipeline=name, score=0.0))
    found = decided(mail(), settings)
    assert found
    assert {decision.model for decision in found} == {f"river/{name}"}
    assert all(decision.evidence["messages"] > decision.evidence["mean"] for decision in found)


def test_built_in_pipelines_have_different_types() -> None:
    assert type(gaussian()) is not type(half_space_trees())


def test_senders_beyond_the_limit_are_untracked() -> None:
    partition = WindowPartition(Policy(1.0, DAY_MS, 0, 1), replace(RIVER.river, keys=1))
    engine = Replay([partition], build.replay(RIVER).composer)
    assert [found for found in engine.run(io.BytesIO(b"".join(mail()))) if found]
    assert partition.state.site["untracked"][0] == len(mail()) // 2


def test_deferred_events_are_not_counted() -> None:
    deferred = [line.replace(b"}", b',"outcome":"deferred"}') for line in mail()]
    assert decided(deferred) == []


def test_compare_accepts_river_and_the_engines_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.toml").write_text(as_lines(1.0))
    (tmp_path / "river.toml").write_text('[model]\ndetector = "river"\n')
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"".join(mail()))
    pair = [f"--{which}={tmp_path / name}.toml" for which, name in (("old", "own"), ("new", "river"))]
    assert main(["compare", *pair, str(events)]) == 0
    assert "decisions: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no.such:thing", "No module named"),
        ("river.anomaly:Nothing", "has no attribute"),
        ("river.anomaly:__name__", "isn't callable"),
    ],
)
def test_unknown_pipeline_is_an_error_of_one_line(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_DETECTOR", "river")
    monkeypatch.setenv("TIDEGATE_RIVER_PIPELINE", name)
    events = tmp_path / "events.ndjson"
    events.write_bytes(mail()[0])
    assert main(["replay", str(events), "--decisions", "-"]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), reason in error) == (1, True)


@pytest.mark.parametrize("command", ["explain", "plot", "calibrate", "warm", "a worker"])
def test_command_that_needs_the_engines_detector_refuses_river(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL_DETECTOR", "river")
    monkeypatch.setenv("TIDEGATE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr("engine.kafka.topic_admin.check_topics", lambda *_, **__: None)
    events = tmp_path / "events.ndjson"
    events.write_bytes(mail()[0])
    arguments = {
        "explain": ["explain", "192.0.2.7", str(events)],
        "plot": ["plot", "192.0.2.7", "--from", str(events)],
        "a worker": ["worker"],
    }.get(command, [command, str(events)])
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"tidegate: model.detector = 'river' is for replays and comparisons: {command} needs 'peak-memory'\n"
    )
