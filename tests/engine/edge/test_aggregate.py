"""Any process of an edge reports the figures of all of them, and leaves out silent ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.edge.aggregate import FILE, SILENT_MS, ProcessAggregate
from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, Histogram, MetricDeclaration, Sample, exposition

NOW_MS = 1_764_000_000_000
ANSWERS = MetricDeclaration("x_answers", COUNTER, "Answers.", ("why",))
OPEN = MetricDeclaration("x_open", GAUGE, "Open ones.")
LATENCY = MetricDeclaration("x_latency_seconds", HISTOGRAM, "Latency.")


def metrics(number: int) -> bytes:
    took = Histogram()
    took.observe(number)
    return exposition([Sample(ANSWERS, number, ("unknown",)), Sample(OPEN, 7 * number), Sample(LATENCY, took)])


@pytest.fixture
def three(tmp_path: Path) -> list[ProcessAggregate]:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()

    def health(number: int) -> dict[str, Any]:
        return {"fresh": True, "shadow": "", "decisions": number}

    return [
        ProcessAggregate(folders, number, lambda _, n=number: health(n), lambda _, n=number: metrics(n))  # type: ignore[misc]
        for number in (1, 2, 3)
    ]


def samples_in(text: bytes) -> Iterator[tuple[str, str, float]]:
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            yield sample.name, sample.labels["process"], sample.value


def test_any_process_reports_all(three: list[ProcessAggregate]) -> None:
    for process in three[1:]:
        process.publish(NOW_MS)

    health, text = three[0].health(NOW_MS), three[0].metrics(NOW_MS)

    assert health == {
        "fresh": True,
        "shadow": "",
        "processes": {str(n): {"fresh": True, "shadow": "", "decisions": n} for n in (1, 2, 3)},
    }
    reported = set(samples_in(text))
    assert {("x_open", str(n), 7.0 * n) for n in (1, 2, 3)} <= reported
    assert {("x_answers_total", str(n), float(n)) for n in (1, 2, 3)} <= reported
    assert {("x_latency_seconds_sum", str(n), float(n)) for n in (1, 2, 3)} <= reported
    assert text.decode().count("# TYPE x_answers_total counter") == 1


def test_silent_process_and_unreadable_figures_are_left_out(three: list[ProcessAggregate], tmp_path: Path) -> None:
    three[0].publish(NOW_MS - SILENT_MS)
    (tmp_path / "c" / FILE).write_bytes(b"{")

    health = three[1].health(NOW_MS)

    assert (health["fresh"], list(health["processes"])) == (False, ["2"])
    assert {process for _, process, _ in samples_in(three[1].metrics(NOW_MS))} == {"2"}
    three[0].publish(NOW_MS)
    three[2].publish(NOW_MS)
    assert three[1].health(NOW_MS)["fresh"] is True


def test_failed_write_leaves_out_its_own_process_only(three: list[ProcessAggregate], tmp_path: Path) -> None:
    (tmp_path / "a").rmdir()

    three[0].publish(NOW_MS)

    assert list(three[1].health(NOW_MS)["processes"]) == ["2"]
