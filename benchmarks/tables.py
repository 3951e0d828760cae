"""The pipeline's tables in README.md, written from the last result that was kept: `python benchmarks/tables.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import CaseResult
from benchmarks.latency import Latency
from benchmarks.pages import Part
from benchmarks.results import latest
from benchmarks.sizes import KEPT

README = Path(__file__).with_name("README.md")
PART = Part("pipeline", "benchmarks/tables.py")


def text(result: dict[str, Any] | None) -> str:
    """What stands between the marks, Markdown."""
    lines = _lines(result) if result else ["No full run has been kept yet: `make bench-pipeline`."]
    return "\n".join(["", "", *lines, "", ""])


def _lines(result: dict[str, Any]) -> Iterator[str]:
    machine, sizes = result["machine"], result["sizes"]
    cases = [CaseResult.from_dict(case) for case in result["cases"]]
    latency = None if result["latency"] is None else Latency(**result["latency"])
    yield (
        f"{machine['time'][:10]}, commit {machine['commit']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB, {machine['kernel']}; Python {machine['python']}, Kafka {machine['kafka']}, Java "
        f"{machine['java']}; load before the run {machine['load_before']}. {sizes['events']:,} events a case, "
        f"{sizes['rounds']} rounds; median (least–most). Answers: {result['figures']['answer']}."
    )
    yield ""
    yield from report.tables(cases, latency)
    yield ""
    yield "Falls short: " + (report.losses(cases, latency) or "nothing, every target is kept") + "."


def write() -> None:
    """Bring README.md up to the last result."""
    PART.write(README, text(latest(KEPT)))


if __name__ == "__main__":
    write()
