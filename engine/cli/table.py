"""Rows of text in columns, as wide as they need, whatever the terminal: for answers that are also piped and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

GAP = "  "


def aligned(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The heading and the rows, a line each: texts to the left, whole numbers to the right with commas, None as a dash."""
    table = [list(head), *([_said(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = [all(isinstance(row[i], str) and not _numeric(row[i]) for row in rows) for i in range(len(head))]
    for line in table:
        placed = zip(line, widths, left, strict=True)
        yield GAP.join(cell.ljust(width) if flush else cell.rjust(width) for cell, width, flush in placed).rstrip()


def _said(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _numeric(cell: object) -> bool:
    return isinstance(cell, str) and cell[-1:] == "%"
