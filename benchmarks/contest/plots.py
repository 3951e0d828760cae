"""The contest's bar charts: SVG 1.1 without scripts or fonts of its own, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.contest.figures import Outcome, median
from benchmarks.contest.rounds import ENGINE

WIDTH, LEFT, RIGHT, BAR, GAP, TOP, FOOT = 860, 230, 110, 20, 8, 46, 14
OURS, OTHERS, INK, PAPER = "#1f4e8c", "#9fb0c8", "#222222", "#ffffff"
FONT = 'font-family="sans-serif" font-size="13"'
RATES, COSTS, SUSTAINED = "contest-rates.svg", "contest-cpu.svg", "contest-open.svg"


def bars(title: str, values: Mapping[str, float], digits: int) -> str:
    """Return horizontal bars, the longest first, on a logarithmic axis that begins below the smallest value."""
    rows = sorted(values.items(), key=lambda row: -row[1])
    low, high = math.log10(min(values.values()) * 0.7), math.log10(max(values.values()))
    height = TOP + len(rows) * (BAR + GAP) + FOOT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" {FONT}>',
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            f'<text x="12" y="26" font-size="15" font-weight="bold" fill="{INK}">{escape(title)}</text>',
            *_rows(rows, low, high, digits),
            "</svg>\n",
        ]
    )


def _rows(rows: list[tuple[str, float]], low: float, high: float, digits: int) -> Iterator[str]:
    for number, (name, value) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        length = (math.log10(value) - low) / max(high - low, 1e-9) * (WIDTH - LEFT - RIGHT)
        colour = OURS if name == ENGINE else OTHERS
        yield f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" fill="{INK}">{escape(name)}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}" fill="{INK}">{value:,.{digits}f}</text>'


class Chart(NamedTuple):
    """One plot."""

    title: str
    values: dict[str, float]  # by contender
    digits: int  # after the point


def charts(outcome: Outcome, main: str) -> dict[str, Chart]:
    """Return the plots by file name; ``main`` is the name of the case that all contenders read."""
    found = {}
    case = next((case for case in outcome.cases if case.case.name == main), None)
    if case is not None:
        right = {name: runs for name, runs in case.runs.items() if not any(run.complaints for run in runs)}
        rates = {name: median(runs, "events_per_s") / 1e3 for name, runs in right.items()}
        costs = {name: median(runs, "cpu_s_per_million") for name, runs in right.items()}
        found[RATES] = Chart("Thousand events a second, logarithmic", rates, 1)
        found[COSTS] = Chart("CPU seconds a million events, logarithmic: less is better", costs, 2)
    sustained = {each.name: float(each.sustainable) for each in outcome.opened if each.sustainable}
    if sustained:
        found[SUSTAINED] = Chart("Events a second sustained under open load, logarithmic", sustained, 0)
    return found


def draw(outcome: Outcome, main: str, folder: Path) -> list[Path]:
    """Write the plots and return their files."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, chart in charts(outcome, main).items():
        (folder / name).write_text(bars(chart.title, chart.values, chart.digits), encoding="utf-8")
        written.append(folder / name)
    return written
