"""A timeline as SVG: above, messages a span of time; below, the leaky count against what is expected and what is allowed.

Both panels share the axis of time; throttled spells are shaded in both. Both are logarithmic (1 + messages), so a
newcomer's five and a burst's ten thousand are both legible, and a count that fades is a straight line. The drawing is plain
SVG 1.1 without scripts or fonts of its own. At most two points a pixel column are drawn, whatever the number of events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from engine.analysis.timeline import Timeline
from engine.detector.constants import DAY_MS, HOUR_MS, SCALE_MS, SCALE_NAMES
from topics.decisions import SHADOW
from topics.errors import OperatorError
from topics.times import moment, span

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT = 70, 44
UPPER, LOWER = (64, 220), (262, 480)  # top and bottom of the panels
LEGEND_Y, FOOT_Y = 246, 530
MINUTE_MS = 60_000
SPANS_MS = [n * MINUTE_MS for n in (1, 5, 15)] + [n * HOUR_MS for n in (1, 3, 6, 12)] + [
    n * DAY_MS for n in (1, 2, 7, 14, 28)
]  # fmt: skip
TICKS_MS = [n * MINUTE_MS for n in (1, 2, 5, 10, 30)] + [n * HOUR_MS for n in (1, 2, 6, 12)] + [
    n * DAY_MS for n in (1, 2, 7, 14, 28, 91, 182, 364)
]  # fmt: skip
MOST_BARS, MOST_TICKS = 160, 9
VOLUME, COUNT, EXPECTED, LIMIT, SPELL = "#7c93b2", "#1f4e8c", "#3c8f5a", "#c0392b", "#f4d6cf"


@dataclass(frozen=True, slots=True)
class Frame:
    """The window of time, and where its moments lie on the page."""

    first_ms: int
    last_ms: int

    def x(self, ts_ms: float) -> float:
        """Pixels from the left, within the panel."""
        share = (ts_ms - self.first_ms) / (self.last_ms - self.first_ms)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def frame_of(timeline: Timeline, since_ms: int | None, until_ms: int | None) -> Frame:
    """The window asked for; without one, from the first event to the last or the end of the last spell, with a little air."""
    stamps = timeline.samples.ts_ms
    first_ms, last_ms = int(stamps.min()), max([int(stamps.max()), *(spell.end_ms for spell in timeline.spells)])
    air_ms = max(MINUTE_MS, (last_ms - first_ms) // 50)
    frame = Frame(
        first_ms - air_ms if since_ms is None else since_ms, last_ms + air_ms if until_ms is None else until_ms
    )
    if frame.first_ms >= frame.last_ms:
        raise OperatorError(
            f"nothing lies between {moment(frame.first_ms)} and {moment(frame.last_ms)}: its events are from "
            f"{moment(first_ms)} to {moment(last_ms)}"
        )
    return frame


def svg(timeline: Timeline, scale: int, frame: Frame) -> str:
    """The picture. ``scale``: the number of the leaky count in the lower panel."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_head(timeline, frame),
        *_spells(timeline, frame),
        *_volume(timeline, frame),
        *_count(timeline, frame, scale),
        *_time_axis(frame),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _inside(timeline: Timeline, frame: Frame) -> npt.NDArray[np.bool_]:
    stamps = timeline.samples.ts_ms
    inside: npt.NDArray[np.bool_] = (frame.first_ms <= stamps) & (stamps <= frame.last_ms)
    return inside


def _text(x: float, y: float, said: str, **look: str) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in look.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(said)}</text>'


def _head(timeline: Timeline, frame: Frame) -> Iterator[str]:
    sent = int(timeline.samples.messages[_inside(timeline, frame)].sum())
    spells = [spell for spell in timeline.spells if spell.end_ms >= frame.first_ms and spell.start_ms <= frame.last_ms]
    yield _text(LEFT, 24, timeline.network, font_size="17", font_weight="bold")
    kind = "throttled or shadow" if any(made.verdict == SHADOW for made in timeline.decisions) else "throttled"
    told = f"{sent:,} messages, {len(spells)} {kind} spell{'' if len(spells) == 1 else 's'}"
    yield _text(WIDTH - RIGHT, 24, f"{told}; {moment(frame.first_ms)} to {moment(frame.last_ms)}", text_anchor="end")


def _spells(timeline: Timeline, frame: Frame) -> Iterator[str]:
    for spell in timeline.spells:
        if spell.end_ms < frame.first_ms or spell.start_ms > frame.last_ms:
            continue
        left, right = frame.x(spell.start_ms), frame.x(spell.end_ms)
        for top, bottom in (UPPER, LOWER):
            width = max(right - left, 1.0)
            yield f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{bottom - top}" fill="{SPELL}"/>'
            ends = f'x1="{left:.1f}" x2="{left:.1f}" y1="{top}" y2="{bottom}"'
            yield f'<line {ends} stroke="{LIMIT}" stroke-width="0.7"/>'


def _volume(timeline: Timeline, frame: Frame) -> Iterator[str]:
    """Bars: messages a span, retries left out."""
    length_ms = next(
        (known for known in SPANS_MS if (frame.last_ms - frame.first_ms) / known <= MOST_BARS), SPANS_MS[-1]
    )
    inside = _inside(timeline, frame)
    bins = timeline.samples.ts_ms[inside] // length_ms
    numbers, where = np.unique(bins, return_inverse=True)
    sums = np.bincount(where, timeline.samples.messages[inside], len(numbers)) if len(numbers) else np.zeros(0)
    y = _logarithmic(UPPER, float(sums.max(initial=1.0)))
    yield _text(LEFT, UPPER[0] - 8, f"messages in {span(length_ms)}", fill=VOLUME, font_weight="bold")
    yield from _levels(UPPER, y, float(sums.max(initial=1.0)))
    for number, messages in zip(numbers.tolist(), sums.tolist(), strict=True):
        left, right = frame.x(number * length_ms), frame.x((number + 1) * length_ms)
        top, width = y(messages), max(right - left - 0.5, 0.8)
        yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{UPPER[1] - top:.1f}" fill="{VOLUME}"/>'


def _logarithmic(panel: tuple[int, int], most: float) -> Callable[[float], float]:
    """Where a number of messages lies in a panel that shows up to the next power of ten."""
    decades = math.ceil(math.log10(1 + most))
    return lambda value: panel[1] - (panel[1] - panel[0]) * math.log10(1 + max(value, 0.0)) / decades


def _levels(panel: tuple[int, int], y: Callable[[float], float], most: float) -> Iterator[str]:
    for level in (0.0, *(10.0**power for power in range(math.ceil(math.log10(1 + most)) + 1))):
        if y(level) >= panel[0]:
            ends = f'y1="{y(level):.1f}" y2="{y(level):.1f}" x1="{LEFT}" x2="{WIDTH - RIGHT}"'
            yield f'<line {ends} stroke="#ddd" stroke-width="0.6"/>'
            yield _text(LEFT - 6, y(level) + 4, f"{level:,.0f}", text_anchor="end", fill="#555")


def _count(timeline: Timeline, frame: Frame, scale: int) -> Iterator[str]:
    """Lines: the count as it fades between events, the expectation and the limit."""
    found, inside = timeline.samples.standing, _inside(timeline, frame)
    before = np.flatnonzero(timeline.samples.ts_ms < frame.first_ms)[-1:]
    inside[before] = True  # what holds when the frame begins
    stamps = timeline.samples.ts_ms[inside]
    counter, limit, memory = (found[name][inside, scale] for name in ("counter", "limit", "memory"))
    expected = np.where(found["active_days"][inside] > 0, memory, timeline.newcomers[scale])
    most = max([1.0, *(float(values[np.isfinite(values)].max(initial=0.0)) for values in (counter, limit, expected))])
    y = _logarithmic(LOWER, most)
    yield from _levels(LOWER, y, most)
    yield from _legend(SCALE_NAMES[scale])
    yield _path(frame, [(t, y(v)) for t, v in _steps(stamps, expected, frame)], EXPECTED, "1.4", "5 3")
    yield _path(frame, [(t, y(v)) for t, v in _steps(stamps, limit, frame)], LIMIT, "1.4", "")
    fading = _fading(stamps, counter, SCALE_MS[scale], frame)
    yield _path(frame, [(t, y(v)) for t, v in fading if t >= frame.first_ms], COUNT, "1.6", "")


def _legend(name: str) -> Iterator[str]:
    x = float(LEFT)
    entries = (
        (COUNT, f"count over {name}"),
        (EXPECTED, "expected: its own most, or newcomers'"),
        (LIMIT, "limit"),
    )
    for colour, said in entries:
        yield _text(x, LEGEND_Y + 8, said, fill=colour, font_weight="bold")
        x += 7.2 * len(said) + 24
    yield f'<rect x="{x:.1f}" y="{LEGEND_Y - 2}" width="14" height="11" fill="{SPELL}" stroke="{LIMIT}" stroke-width="0.5"/>'
    yield _text(x + 19, LEGEND_Y + 8, "throttled", fill="#555", font_weight="bold")


def _thinned(
    stamps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], frame: Frame
) -> Iterator[tuple[int, float]]:
    """The greatest value of each pixel column."""
    columns = np.array([math.floor(frame.x(ts_ms)) for ts_ms in stamps.tolist()], np.int64)
    order = np.lexsort((values, columns))
    last = np.flatnonzero(np.append(columns[order][1:] != columns[order][:-1], True)) if len(order) else order
    yield from ((int(stamps[i]), float(values[i])) for i in sorted(order[last].tolist()))


def _steps(
    stamps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], frame: Frame
) -> Iterator[tuple[float, float]]:
    """What holds from an event to the next, and to the end of the frame."""
    held = None
    for ts_ms, value in _thinned(stamps, values, frame):
        if held is not None:
            yield ts_ms, held
        yield ts_ms, value
        held = value
    if held is not None:
        yield frame.last_ms, held


def _fading(
    stamps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], tau_ms: int, frame: Frame
) -> Iterator[tuple[float, float]]:
    """The count: faded up to each event, then what the event made of it; from a gap's start down to nothing."""
    before: tuple[int, float] | None = None
    for ts_ms, value in [*_thinned(stamps, values, frame), (frame.last_ms, math.nan)]:
        if before is not None:
            for share in (0.25, 0.5, 1.0):
                elapsed_ms = min((ts_ms - before[0]), 8 * tau_ms) * share
                yield before[0] + elapsed_ms, before[1] * math.exp(-elapsed_ms / tau_ms)
            yield ts_ms, before[1] * math.exp(-(ts_ms - before[0]) / tau_ms)
        if not math.isnan(value):
            yield ts_ms, value
            before = (ts_ms, value)


def _path(frame: Frame, points: list[tuple[float, float]], colour: str, width: str, dashes: str) -> str:
    line = " ".join(f"{frame.x(t):.1f},{y:.1f}" for t, y in points if math.isfinite(y))
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _time_axis(frame: Frame) -> Iterator[str]:
    length_ms = frame.last_ms - frame.first_ms
    distance_ms = next((known for known in TICKS_MS if length_ms / known <= MOST_TICKS), TICKS_MS[-1])
    shape = "%d %b %Y" if distance_ms >= DAY_MS else "%d %b %H:%M"
    ts_ms = -(-frame.first_ms // distance_ms) * distance_ms
    while ts_ms <= frame.last_ms:
        x, said = frame.x(ts_ms), datetime.fromtimestamp(ts_ms / 1000, UTC).strftime(shape)
        yield f'<line x1="{x:.1f}" y1="{LOWER[1]}" x2="{x:.1f}" y2="{LOWER[1] + 5}" stroke="#555"/>'
        yield _text(x, LOWER[1] + 20, said, text_anchor="middle", fill="#555")
        ts_ms += distance_ms
    for top, bottom in (UPPER, LOWER):
        edges = f'x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - top}"'
        yield f'<rect {edges} fill="none" stroke="#999" stroke-width="0.8"/>'
    yield _text(WIDTH - RIGHT, FOOT_Y, "times are UTC", text_anchor="end", fill="#777", font_size="11")
