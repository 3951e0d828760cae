"""Leaky counters: demand that fades with the scale's time constant, and the open day's peak of it.

c <- c exp(-dt / tau) + d. No window edges, any event rate, O(1); an event that comes late (dt < 0) adds without fading.
Between events nothing happens: the fading is in closed form.
"""

from __future__ import annotations

import math
from typing import Any

from engine.models.constants import REJECTED_WEIGHT, SATURATED, SCALE_MS, SCALES
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
def count(row: Any, t_ms: int, messages: int, outcome: int) -> float:
    """Fade the counters to ``t_ms`` and add an event's demand, which is given back."""
    amount = demand(row, messages, outcome)
    elapsed_ms = t_ms - row.last_ms
    for s in range(SCALES):
        counter = float64(row.counter[s])
        if elapsed_ms > 0:
            counter *= math.exp(-elapsed_ms / SCALE_MS[s])
        row.counter[s] = counter + amount
        if row.counter[s] > row.peak[s]:
            row.peak[s] = row.counter[s]
    if elapsed_ms > 0:
        row.last_ms = t_ms
    if outcome == ACCEPTED:
        row.accepted = min(int64(row.accepted) + messages, SATURATED)
    elif outcome == REJECTED:
        row.rejected = min(int64(row.rejected) + messages, SATURATED)
    return amount
