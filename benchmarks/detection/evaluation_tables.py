"""The evaluation's tables: printed by `make evaluate`, and written into README.md and engine/detector/README.md from the last
full result that was kept (``python -m benchmarks.detection.evaluation_tables`` writes them again).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import results
from benchmarks.harness.pages import Part
from engine.pipeline.build import PEAK_MEMORY

KEPT = results.FOLDER / "evaluation.ndjson"
ROOT = Path(__file__).parents[2]
PAGES = {ROOT / "README.md": "summary", ROOT / "engine" / "detector" / "README.md": "everything"}
PART = Part("evaluation", "make evaluate")
LABELS = ("admitted", "over kinds", "detected", "legit deferred", "with history")


def _shares(row: dict[str, Any]) -> str:
    return (
        f"{row['attack_admitted']:.1%} | {row['mean_kind_admitted']:.1%} | {row['recall']:.1%} "
        f"| {row['legit_deferred']:.2%} | {row['legit_with_history_deferred']:.2%}"
    )


def _head(first: str) -> list[str]:
    return [f"| {' | '.join((first, *LABELS))} |", f"|---|{'---:|' * len(LABELS)}"]


def _setting(row: dict[str, Any]) -> str:
    if row.get("detector", PEAK_MEMORY) != PEAK_MEMORY:
        return f"{row['detector']} as second opinion, at its defaults"
    said = [
        f"budget {row['budget']:g} %",
        f"{row['partitions']} partition{'s' if row['partitions'] > 1 else ''}",
    ]
    said += [f"messages × {row['volume']}"] if row["volume"] > 1 else []
    said += [f"decisions {row['delay_ms'] / 1000:g} s late"] if row["delay_ms"] else []
    return ", ".join(said)


def pooled(result: dict[str, Any]) -> Iterator[str]:
    """All traces as one; the first row is the default."""
    yield from _head("")
    for i, row in enumerate(result["rows"]):
        name = _setting(row)
        yield f"| {f'**{name}**' if i == 0 else name} | {_shares(row)} |"


def kinds(result: dict[str, Any]) -> Iterator[str]:
    """The default, by kind of attack and by hard case."""
    row = result["rows"][0]
    yield "| attack | episodes | admitted | detected | messages before the first deferral, median |"
    yield "|---|---:|---:|---:|---:|"
    for kind, (episodes, admitted, recall, median) in row["kinds"].items():
        yield f"| {kind} | {episodes} | {admitted:.1%} | {recall:.0%} | {'never' if median is None else f'{median:g}'} |"
    yield ""
    yield "| honest, and hard to tell | deferred |"
    yield "|---|---:|"
    for kind, share in row["hard_cases"].items():
        yield f"| {kind} | {share:.2%} |"


def ablated(result: dict[str, Any]) -> Iterator[str]:
    """The default, and the model without one of its parts."""
    yield from _head("")
    yield f"| **everything** | {_shares(result['rows'][0])} |"
    for row in result["ablation"]:
        yield f"| {row['variant']} | {_shares(row)} |"


def summary(result: dict[str, Any]) -> Iterator[str]:
    """What the front page says."""
    yield from pooled(result)
    yield ""
    yield from kinds(result)


def everything(result: dict[str, Any]) -> Iterator[str]:
    """All tables of a result."""
    yield from summary(result)
    if result["ablation"]:
        yield ""
        yield from ablated(result)


def text(name: str, result: dict[str, Any] | None) -> str:
    """What stands between the marks of a page, Markdown."""
    lines = ["No full run has been kept yet: `make evaluate ARGS=--full`."]
    if result is not None:
        lines = [*{"summary": summary, "everything": everything}[name](result)]
    return "\n".join(["", "", *lines, "", ""])


def write() -> None:
    """Bring both pages up to the last full result."""
    for page, name in PAGES.items():
        PART.write(page, text(name, results.latest(KEPT)))


if __name__ == "__main__":
    write()
