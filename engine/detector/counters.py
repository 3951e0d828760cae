"""Decayed counters: demand per scale, decaying with the scale's time constant, and the open day's peak of each.

    c <- c exp(-dt / tau) + d

There are no window edges, any event rate is fine, and an event costs O(1). A late event (dt < 0) adds without decay. Between
events nothing happens, because the decay has a closed form. The scales are multiples of each other, so one exponential and a
dozen products give all five factors.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.constants import DAY_MS, NEGLIGIBLE, REJECTED_WEIGHT, SATURATED, SCALES
from topics.columns.jit import inline
from topics.columns.memory import float64, int64
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED


@inline
def demand_of(row: Any, messages: int, outcome: int) -> float:
    """Return the messages that count as demand.

    A deferred event counts 0, as it is a retry. Rejected messages weigh more while the sender has none accepted.
    """
    if outcome == DEFERRED:
        return 0.0
    if outcome == REJECTED and row.accepted == 0:
        return REJECTED_WEIGHT * messages
    return float64(messages)


@inline
def untracked_demand(messages: int, outcome: int) -> float:
    """Return the same for a sender without a row, which has no accepted message on record."""
    if outcome == DEFERRED:
        return 0.0
    return REJECTED_WEIGHT * messages if outcome == REJECTED else float64(messages)


@inline
def _flushed(factor: float) -> float:
    """Return a decay factor, 0 if it is negligible."""
    return factor if factor > NEGLIGIBLE else 0.0


@inline
def decay_factors(elapsed_ms: int) -> Any:
    """Return exp(-dt / tau) for each scale, 1 for a late event."""
    if elapsed_ms <= 0:
        return 1.0, 1.0, 1.0, 1.0, 1.0
    day = _flushed(math.exp(-elapsed_ms / DAY_MS))
    square = day * day
    six_hours = _flushed(square * square)
    square = six_hours * six_hours
    hour = _flushed(square * square * square)
    square = hour * hour
    ten_minutes = _flushed(square * square * square)
    square = ten_minutes * ten_minutes
    fourth = square * square
    return hour, six_hours, day, ten_minutes, _flushed(fourth * fourth * square)


@inline
def count_event(row: Any, t_ms: int, messages: int, outcome: int) -> float:
    """Decay a row's counters to `t_ms` and add an event's demand. Return the demand."""
    amount = demand_of(row, messages, outcome)
    elapsed_ms = t_ms - row.last_ms
    factors = decay_factors(elapsed_ms)
    for s in range(SCALES):
        row.counter[s] = float64(row.counter[s]) * factors[s] + amount
        if row.counter[s] > row.peak[s]:
            row.peak[s] = row.counter[s]
    if elapsed_ms > 0:
        row.last_ms = t_ms
    if outcome == ACCEPTED:
        row.accepted = min(int64(row.accepted) + messages, SATURATED)
    elif outcome == REJECTED:
        row.rejected = min(int64(row.rejected) + messages, SATURATED)
    return amount
