"""Processes of an edge speak as one over HTTP: each with its own figures, and the silent ones are missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.edge.aggregate import FILE, SILENT_MS, Together
from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, Declared, Histogram, Sample, exposition

NOW_MS = 1_764_000_000_000
ANSWERS = Declared("x_answers", COUNTER, "Answers.", ("why",))
OPEN = Declared("x_open", GAUGE, "Open ones.")
LATENCY = Declared("x_latency_seconds", HISTOGRAM, "Latency.")


def metrics(number: int) -> bytes:
    took = Histogram()
    took.observe(number)
    return exposition([Sample(ANSWERS, number, ("unknown",)), Sample(OPEN, 7 * number), Sample(LATENCY, took)])


@pytest.fixture
def three(tmp_path: Path) -> list[Together]:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()

    def health(number: int) -> dict[str, Any]:
        return {"fresh": True, "shadow": "", "decisions": number}

    return [
        Together(folders, number, lambda _, n=number: health(n), lambda _, n=number: metrics(n))  # type: ignore[misc]
        for number in (1, 2, 3)
    ]


def found(octets: bytes) -> Iterator[tuple[str, str, float]]:
    for family in text_string_to_metric_families(octets.decode()):
        for sample in family.samples:
            yield sample.name, sample.labels["process"], sample.value


def test_whoever_is_asked_tells_of_all(three: list[Together]) -> None:
    for one in three[1:]:
        one.say(NOW_MS)
    assert three[0].health(NOW_MS) == {
        "fresh": True,
        "shadow": "",
        "processes": {str(n): {"fresh": True, "shadow": "", "decisions": n} for n in (1, 2, 3)},
    }
    told = set(found(three[0].metrics(NOW_MS)))
    assert {("x_open", str(n), 7.0 * n) for n in (1, 2, 3)} <= told
    assert {("x_answers_total", str(n), float(n)) for n in (1, 2, 3)} <= told
    assert {("x_latency_seconds_sum", str(n), float(n)) for n in (1, 2, 3)} <= told
    text = three[0].metrics(NOW_MS).decode()
    assert text.count("# TYPE x_answers_total counter") == 1


def test_who_is_silent_or_says_nonsense_is_missed(three: list[Together], tmp_path: Path) -> None:
    three[0].say(NOW_MS - SILENT_MS)
    (tmp_path / "c" / FILE).write_bytes(b"{")
    said = three[1].health(NOW_MS)
    assert (said["fresh"], list(said["processes"])) == (False, ["2"])
    assert {process for _, process, _ in found(three[1].metrics(NOW_MS))} == {"2"}
    three[0].say(NOW_MS)
    three[2].say(NOW_MS)
    assert three[1].health(NOW_MS)["fresh"] is True


def test_a_disk_that_takes_nothing_ends_nobody(three: list[Together], tmp_path: Path) -> None:
    (tmp_path / "a").rmdir()
    three[0].say(NOW_MS)
    assert list(three[1].health(NOW_MS)["processes"]) == ["2"]
