"""Leaky counters: demand that fades with the scale's time constant, and the open day's peak of it.

c <- c exp(-dt / tau) + d. No window edges, any event rate, O(1); an event that comes late (dt < 0) adds without fading.
The scales are multiples of each other, so one exponential and a dozen products give all five factors.
Between events nothing happens: the fading is in closed form.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.constants import DAY_MS, NOTHING, REJECTED_WEIGHT, SATURATED, SCALES
from topics.columns.jit import inline
from topics.columns.memory import float64, int64
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED


@inline
def demand(row: Any, messages: int, outcome: int) -> float:
    """Messages that count: none for a retry, rejected ones more while nothing was ever accepted."""
    if outcome == DEFERRED:
        return 0.0
    if outcome == REJECTED and row.accepted == 0:
        return REJECTED_WEIGHT * messages
    return float64(messages)


@inline
def stranger_demand(messages: int, outcome: int) -> float:
    """The same of a key without a row, of which nothing was ever accepted."""
    if outcome == DEFERRED:
        return 0.0
    return REJECTED_WEIGHT * messages if outcome == REJECTED else float64(messages)


@inline
def _some(kept: float) -> float:
    """``kept``, 0 where next to nothing is left."""
    return kept if kept > NOTHING else 0.0


@inline
def fading(elapsed_ms: int) -> Any:
    """What is left of each counter after so long: exp(-dt / tau) by scale."""
    if elapsed_ms <= 0:
        return 1.0, 1.0, 1.0, 1.0, 1.0
    day = _some(math.exp(-elapsed_ms / DAY_MS))
    square = day * day
    six_hours = _some(square * square)
    square = six_hours * six_hours
    hour = _some(square * square * square)
    square = hour * hour
    ten_minutes = _some(square * square * square)
    square = ten_minutes * ten_minutes
    fourth = square * square
    return hour, six_hours, day, ten_minutes, _some(fourth * fourth * square)


@inline
def count(row: Any, t_ms: int, messages: int, outcome: int) -> float:
    """Fade the counters to ``t_ms`` and add an event's demand, which is given back."""
    amount = demand(row, messages, outcome)
    elapsed_ms = t_ms - row.last_ms
    kept = fading(elapsed_ms)
    for s in range(SCALES):
        row.counter[s] = float64(row.counter[s]) * kept[s] + amount
        if row.counter[s] > row.peak[s]:
            row.peak[s] = row.counter[s]
    if elapsed_ms > 0:
        row.last_ms = t_ms
    if outcome == ACCEPTED:
        row.accepted = min(int64(row.accepted) + messages, SATURATED)
    elif outcome == REJECTED:
        row.rejected = min(int64(row.rejected) + messages, SATURATED)
    return amount
