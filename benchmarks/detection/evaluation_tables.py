"""The evaluation's tables: printed by `make evaluate`, and written to README.md and engine/detector/README.md.

The pages show the latest full result; ``python -m benchmarks.detection.evaluation_tables`` writes them again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness import results
from benchmarks.harness.results import ROOT, GeneratedPart, table
from engine.pipeline.build import PEAK_MEMORY

KEPT = results.FOLDER / "evaluation.ndjson"
PAGES = {ROOT / "README.md": "summary", ROOT / "engine" / "detector" / "README.md": "everything"}
PART = GeneratedPart("evaluation", "make evaluate")
LABELS = "admitted | over kinds | detected | legit deferred | with history"
OLD_VARIANTS = {  # names in results of 2026, by their beginning
    "newcomers' limits not learned": "newcomers' limits not learned: those of the prior",
    "T doesn't follow": "the threshold doesn't follow the deferred mail",
    "nobody's first excess": "no lenience for a first excess",
    "no cap on what": "no cap on the mail deferred of one sender",
    "no guard on neighbours": "no limit on neighbours: snowshoe trains the cohort",
    "memory that never forgets": "memory without decay",
    "the prior stays": "the prior unchanged, whatever the site's volume",
    "no clip of what": "no clip of a day's training",
    "no floor": "no floor: a known sender's own baseline alone",
}


def _shares(row: dict[str, Any]) -> list[str]:
    names = ("attack_admitted", "mean_kind_admitted", "recall", "legit_deferred", "legit_with_history_deferred")
    return [f"{row[name]:.{2 if name.startswith('legit') else 1}%}" for name in names]


def _setting(row: dict[str, Any]) -> str:
    if row.get("detector", PEAK_MEMORY) != PEAK_MEMORY:
        return f"{row['detector']} as second opinion, at its defaults"
    words = [f"budget {row['budget']:g} %", f"{row['partitions']} partition{'s' if row['partitions'] > 1 else ''}"]
    words += [f"messages × {row['volume']}"] if row["volume"] > 1 else []
    words += [f"decisions {row['delay_ms'] / 1000:g} s late"] if row["delay_ms"] else []
    return ", ".join(words)


def _pooled(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table over all traces; the first row is the default."""
    names = [f"**{_setting(row)}**" if i == 0 else _setting(row) for i, row in enumerate(rows)]
    return table(f" | {LABELS}", [[name, *_shares(row)] for name, row in zip(names, rows, strict=True)])


def _kinds(row: dict[str, Any]) -> Iterator[str]:
    """Return the default's tables by kind of attack and by hard case."""
    rows = [
        [kind, f"{episodes}", f"{admitted:.1%}", f"{recall:.0%}", "never" if median is None else f"{median:g}"]
        for kind, (episodes, admitted, recall, median) in row["kinds"].items()
    ]
    yield from table("attack | episodes | admitted | detected | messages before the first deferral, median", rows)
    yield ""
    shares = [[kind, f"{share:.2%}"] for kind, share in row["hard_cases"].items()]
    yield from table("honest, and hard to tell | deferred", shares)


def _ablated(result: dict[str, Any]) -> list[str]:
    """Return the table of the default, and of the model without one of its parts."""

    def name_of(variant: str) -> str:
        return next((name for beginning, name in OLD_VARIANTS.items() if variant.startswith(beginning)), variant)

    rows = [[name_of(row["variant"]), *_shares(row)] for row in result["ablation"]]
    return table(f" | {LABELS}", [["**everything**", *_shares(result["rows"][0])], *rows])


def summary(result: dict[str, Any]) -> Iterator[str]:
    """Return the tables of the front page."""
    yield from _pooled(result["rows"])
    yield ""
    yield from _kinds(result["rows"][0])


def everything(result: dict[str, Any]) -> Iterator[str]:
    """Return all tables of a result."""
    yield from summary(result)
    if result["ablation"]:
        yield ""
        yield from _ablated(result)


def text(name: str, result: dict[str, Any] | None) -> str:
    """Return the text between the marks of a page, Markdown."""
    lines = ["No full run has been kept yet: `make evaluate ARGS=--full`."]
    if result is not None:
        lines = [*{"summary": summary, "everything": everything}[name](result)]
    return "\n".join(["", "", *lines, "", ""])


def write() -> None:
    """Update both pages from the latest full result."""
    for page, name in PAGES.items():
        PART.write(page, text(name, results.latest(KEPT)))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    write()
