"""Text tables whose columns are as wide as their content, independent of the terminal, so output can be piped and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

GAP = "  "


def aligned(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield heading and rows as lines: text left-aligned, numbers right-aligned, integers with commas, None as a dash."""
    table = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = [all(isinstance(row[i], str) and not _numeric(row[i]) for row in rows) for i in range(len(head))]
    for line in table:
        cells = zip(line, widths, left, strict=True)
        yield GAP.join(cell.ljust(width) if flush else cell.rjust(width) for cell, width, flush in cells).rstrip()


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _numeric(cell: object) -> bool:
    return isinstance(cell, str) and cell[-1:] == "%"
