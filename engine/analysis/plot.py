"""Draw a sender's timeline as SVG: volume above; decayed count, expectation and limit below.

Both panels share the time axis, and throttle periods are shaded in both. Both are logarithmic (1 + messages), so a newcomer's
five messages and a burst's ten thousand are both legible, and a decaying count is a straight line. The output is SVG 1.1
without scripts or fonts. Limit: two points per pixel column, whatever the number of events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from engine.analysis.collateral import ThrottlePeriod
from engine.analysis.timeline import SenderTimeline
from engine.detector.constants import DAY_MS, HOUR_MS, SCALE_MS, SCALE_NAMES
from topics.decisions import SHADOW
from topics.errors import OperatorError
from topics.times import duration_text, time_text

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
MAX_BARS, MAX_TICKS = 160, 9
VOLUME, COUNT, EXPECTED, LIMIT, THROTTLED = "#7c93b2", "#1f4e8c", "#3c8f5a", "#c0392b", "#f4d6cf"


@dataclass(frozen=True, slots=True)
class Frame:
    """The drawn window of time, ms since epoch."""

    first_ms: int
    last_ms: int

    def x(self, ts_ms: float) -> float:
        """Return the pixels from the left edge for a time, limited to the panel."""
        share = (ts_ms - self.first_ms) / (self.last_ms - self.first_ms)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def frame_of(timeline: SenderTimeline, since_ms: int | None, until_ms: int | None) -> Frame:
    """Return the frame of a window, by default of all events and throttle periods with a margin of 2 %.

    Raise OperatorError if the window is empty.
    """
    times_ms = timeline.samples.ts_ms
    ends_ms = [period.end_ms for period in timeline.throttle_periods]
    first_ms, last_ms = int(times_ms.min()), max([int(times_ms.max()), *ends_ms])
    margin_ms = max(MINUTE_MS, (last_ms - first_ms) // 50)
    frame = Frame(
        first_ms - margin_ms if since_ms is None else since_ms, last_ms + margin_ms if until_ms is None else until_ms
    )
    if frame.first_ms >= frame.last_ms:
        raise OperatorError(
            f"no events between {time_text(frame.first_ms)} and {time_text(frame.last_ms)}: the sender's events are from "
            f"{time_text(first_ms)} to {time_text(last_ms)}"
        )
    return frame


def svg(timeline: SenderTimeline, scale: int, frame: Frame) -> str:
    """Return the SVG document. `scale`: index of the decayed count in the lower panel."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_head(timeline, frame),
        *_throttle_periods(timeline, frame),
        *_volume(timeline, frame),
        *_count(timeline, frame, scale),
        *_time_axis(frame),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _is_inside(timeline: SenderTimeline, frame: Frame) -> npt.NDArray[np.bool_]:
    times_ms = timeline.samples.ts_ms
    is_inside: npt.NDArray[np.bool_] = (frame.first_ms <= times_ms) & (times_ms <= frame.last_ms)
    return is_inside


def _text(x: float, y: float, text: str, **style: str) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _head(timeline: SenderTimeline, frame: Frame) -> Iterator[str]:
    sent = int(timeline.samples.messages[_is_inside(timeline, frame)].sum())
    periods = [period for period in timeline.throttle_periods if _is_visible(period, frame)]
    yield _text(LEFT, 24, timeline.network, font_size="17", font_weight="bold")
    kind = "throttle or shadow" if any(made.verdict == SHADOW for made in timeline.decisions) else "throttle"
    summary = f"{sent:,} messages, {len(periods)} {kind} period{'' if len(periods) == 1 else 's'}"
    window = f"{time_text(frame.first_ms)} to {time_text(frame.last_ms)}"
    yield _text(WIDTH - RIGHT, 24, f"{summary}; {window}", text_anchor="end")


def _is_visible(period: ThrottlePeriod, frame: Frame) -> bool:
    return period.end_ms >= frame.first_ms and period.start_ms <= frame.last_ms


def _throttle_periods(timeline: SenderTimeline, frame: Frame) -> Iterator[str]:
    for period in timeline.throttle_periods:
        if not _is_visible(period, frame):
            continue
        left, right = frame.x(period.start_ms), frame.x(period.end_ms)
        for top, bottom in (UPPER, LOWER):
            width = max(right - left, 1.0)
            yield f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{bottom - top}" fill="{THROTTLED}"/>'
            ends = f'x1="{left:.1f}" x2="{left:.1f}" y1="{top}" y2="{bottom}"'
            yield f'<line {ends} stroke="{LIMIT}" stroke-width="0.7"/>'


def _volume(timeline: SenderTimeline, frame: Frame) -> Iterator[str]:
    """Draw bars of messages per span of time, without retries."""
    length_ms = next(
        (length for length in SPANS_MS if (frame.last_ms - frame.first_ms) / length <= MAX_BARS), SPANS_MS[-1]
    )
    is_inside = _is_inside(timeline, frame)
    bins = timeline.samples.ts_ms[is_inside] // length_ms
    numbers, index = np.unique(bins, return_inverse=True)
    sums = np.bincount(index, timeline.samples.messages[is_inside], len(numbers)) if len(numbers) else np.zeros(0)
    y = _logarithmic(UPPER, float(sums.max(initial=1.0)))
    yield _text(LEFT, UPPER[0] - 8, f"messages in {duration_text(length_ms)}", fill=VOLUME, font_weight="bold")
    yield from _levels(UPPER, y, float(sums.max(initial=1.0)))
    for number, messages in zip(numbers.tolist(), sums.tolist(), strict=True):
        left, right = frame.x(number * length_ms), frame.x((number + 1) * length_ms)
        top, width = y(messages), max(right - left - 0.5, 0.8)
        yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{UPPER[1] - top:.1f}" fill="{VOLUME}"/>'


def _logarithmic(panel: tuple[int, int], most: float) -> Callable[[float], float]:
    """Return the function from messages to pixels of a panel that ends at the next power of ten."""
    decades = math.ceil(math.log10(1 + most))
    return lambda value: panel[1] - (panel[1] - panel[0]) * math.log10(1 + max(value, 0.0)) / decades


def _levels(panel: tuple[int, int], y: Callable[[float], float], most: float) -> Iterator[str]:
    for level in (0.0, *(10.0**power for power in range(math.ceil(math.log10(1 + most)) + 1))):
        if y(level) >= panel[0]:
            ends = f'y1="{y(level):.1f}" y2="{y(level):.1f}" x1="{LEFT}" x2="{WIDTH - RIGHT}"'
            yield f'<line {ends} stroke="#ddd" stroke-width="0.6"/>'
            yield _text(LEFT - 6, y(level) + 4, f"{level:,.0f}", text_anchor="end", fill="#555")


def _count(timeline: SenderTimeline, frame: Frame, scale: int) -> Iterator[str]:
    """Draw lines of the decaying count, the expectation and the limit."""
    sampled, is_drawn = timeline.samples.standing, _is_inside(timeline, frame)
    before = np.flatnonzero(timeline.samples.ts_ms < frame.first_ms)[-1:]
    is_drawn[before] = True  # its values are current at the start of the frame
    times_ms = timeline.samples.ts_ms[is_drawn]
    counter, limit, memory = (sampled[name][is_drawn, scale] for name in ("counter", "limit", "memory"))
    expected = np.where(sampled["active_days"][is_drawn] > 0, memory, timeline.newcomers[scale])
    most = max([1.0, *(float(values[np.isfinite(values)].max(initial=0.0)) for values in (counter, limit, expected))])
    y = _logarithmic(LOWER, most)
    yield from _levels(LOWER, y, most)
    yield from _legend(SCALE_NAMES[scale])
    yield _path(frame, [(t, y(v)) for t, v in _steps(times_ms, expected, frame)], EXPECTED, "1.4", "5 3")
    yield _path(frame, [(t, y(v)) for t, v in _steps(times_ms, limit, frame)], LIMIT, "1.4", "")
    decaying = _decaying(times_ms, counter, SCALE_MS[scale], frame)
    yield _path(frame, [(t, y(v)) for t, v in decaying if t >= frame.first_ms], COUNT, "1.6", "")


def _legend(name: str) -> Iterator[str]:
    x = float(LEFT)
    entries = (
        (COUNT, f"count over {name}"),
        (EXPECTED, "expected: own peak, or newcomers'"),
        (LIMIT, "limit"),
    )
    for colour, text in entries:
        yield _text(x, LEGEND_Y + 8, text, fill=colour, font_weight="bold")
        x += 7.2 * len(text) + 24
    box = f'x="{x:.1f}" y="{LEGEND_Y - 2}" width="14" height="11"'
    yield f'<rect {box} fill="{THROTTLED}" stroke="{LIMIT}" stroke-width="0.5"/>'
    yield _text(x + 19, LEGEND_Y + 8, "throttled", fill="#555", font_weight="bold")


def _thinned(
    times_ms: npt.NDArray[np.int64], values: npt.NDArray[np.float64], frame: Frame
) -> Iterator[tuple[int, float]]:
    """Yield the greatest value of each pixel column."""
    columns = np.array([math.floor(frame.x(ts_ms)) for ts_ms in times_ms.tolist()], np.int64)
    order = np.lexsort((values, columns))
    last = np.flatnonzero(np.append(columns[order][1:] != columns[order][:-1], True)) if len(order) else order
    yield from ((int(times_ms[i]), float(values[i])) for i in sorted(order[last].tolist()))


def _steps(
    times_ms: npt.NDArray[np.int64], values: npt.NDArray[np.float64], frame: Frame
) -> Iterator[tuple[float, float]]:
    """Yield the points of a step line: each value lasts until the next event, the last one until the end of the frame."""
    current = None
    for ts_ms, value in _thinned(times_ms, values, frame):
        if current is not None:
            yield ts_ms, current
        yield ts_ms, value
        current = value
    if current is not None:
        yield frame.last_ms, current


def _decaying(
    times_ms: npt.NDArray[np.int64], values: npt.NDArray[np.float64], tau_ms: int, frame: Frame
) -> Iterator[tuple[float, float]]:
    """Yield the points of a count: its decay until each event, then its value after the event."""
    before: tuple[int, float] | None = None
    for ts_ms, value in [*_thinned(times_ms, values, frame), (frame.last_ms, math.nan)]:
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
    distance_ms = next((tick for tick in TICKS_MS if length_ms / tick <= MAX_TICKS), TICKS_MS[-1])
    time_format = "%d %b %Y" if distance_ms >= DAY_MS else "%d %b %H:%M"
    ts_ms = -(-frame.first_ms // distance_ms) * distance_ms
    while ts_ms <= frame.last_ms:
        x, label = frame.x(ts_ms), datetime.fromtimestamp(ts_ms / 1000, UTC).strftime(time_format)
        yield f'<line x1="{x:.1f}" y1="{LOWER[1]}" x2="{x:.1f}" y2="{LOWER[1] + 5}" stroke="#555"/>'
        yield _text(x, LOWER[1] + 20, label, text_anchor="middle", fill="#555")
        ts_ms += distance_ms
    for top, bottom in (UPPER, LOWER):
        edges = f'x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - top}"'
        yield f'<rect {edges} fill="none" stroke="#999" stroke-width="0.8"/>'
    yield _text(WIDTH - RIGHT, FOOT_Y, "times are UTC", text_anchor="end", fill="#777", font_size="11")
