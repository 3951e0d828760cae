"""Kept results, one JSON object a line, the pages that are generated from them, and how figures are printed.

A result holds the sizes, the machine, every single measurement and the figures. Files are only ever appended to.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"


def keep(result: dict[str, Any], path: Path) -> None:
    """Append a result to the file, which is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))


def latest(path: Path) -> dict[str, Any] | None:
    """Return the last result in the file, None if there is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return orjson.loads(lines[-1]) if lines else None


class GeneratedPart(NamedTuple):
    """The part of a page that a benchmark writes, between two marks."""

    name: str
    command: str  # that writes it

    @property
    def begin(self) -> str:
        """Return the mark at which it begins."""
        return f"<!-- {self.name}: written by {self.command} -->"

    @property
    def end(self) -> str:
        """Return the mark at which it ends."""
        return f"<!-- {self.name}: end -->"

    def split(self, page: str) -> tuple[str, str, str]:
        """Return the page before, between and after the marks."""
        before, begun, rest = page.partition(self.begin)
        between, ended, after = rest.partition(self.end)
        assert begun, f"the page lacks {self.begin}"
        assert ended, f"the page lacks {self.end}"
        return before, between, after

    def write(self, path: Path, text: str) -> None:
        """Replace what is between the marks of a page."""
        before, _, after = self.split(path.read_text(encoding="utf-8"))
        path.write_text(before + self.begin + text + self.end + after, encoding="utf-8")


class Target(NamedTuple):
    """A figure and the bound that it should keep."""

    what: str
    figure: float
    bound: float
    at_least: bool = False  # else at most

    @property
    def is_kept(self) -> bool:
        """Return True if the figure keeps its bound."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def text(self) -> str:
        """Return one line."""
        return f"{self.what}: {self.figure:.4g}, wanted {'at least' if self.at_least else 'at most'} {self.bound:g}"


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Return the median and the range, such as ``2.10 (2.05–2.14)``."""
    middle, low, high = (value / scale for value in (statistics.median(values), min(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head: str, rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Return the lines of a Markdown table.

    ``head`` holds the titles, separated by " | ". All columns but the first ``texts`` are aligned as numbers.
    """
    titles = head.split(" | ")
    lines = [titles, ["---"] * texts + ["---:"] * (len(titles) - texts), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
