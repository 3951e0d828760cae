"""The token bucket of an active throttle, as an edge has it: an estimate of the messages that passed and were deferred.

The engine estimates the cost of its own decisions without labels or feedback, because a replay and shadow mode have no edge.
A live edge reports a deferral as an event of outcome `deferred`, which counts as given. The burst is one hour's worth of the
rate, and at least one message. Deferred messages are kept in the row, up to 65,535, until a day closes and they are charged
(`engine.detector.budget`).
"""

from __future__ import annotations

from typing import Any

from engine.detector.constants import HOUR_MS, SATURATED
from topics.columns.jit import inline
from topics.columns.memory import float64, int64
from topics.columns.scan import ACCEPTED, DEFERRED

ROUNDING = 1e-6  # a token short of a whole one by this much counts as whole


@inline
def burst(rate_per_h: float) -> float:
    """Return a bucket's size in messages."""
    return max(1.0, rate_per_h)


@inline
def refill(row: Any, elapsed_ms: int) -> None:
    """Add the tokens of the elapsed time to the row's bucket; a late event adds none."""
    if elapsed_ms > 0:
        rate = float64(row.rate_per_h)
        row.tokens = min(burst(rate), float64(row.tokens) + rate * elapsed_ms / HOUR_MS)


@inline
def take_tokens(row: Any, messages: int, outcome: int) -> int:
    """Take an event's messages from the row's bucket. Return how many regular messages were deferred."""
    deferred = messages
    if outcome != DEFERRED:
        passed = min(messages, int64(float64(row.tokens) + ROUNDING))
        row.tokens = float64(row.tokens) - passed
        deferred = messages - passed if outcome == ACCEPTED else 0
    row.deferred = min(int64(row.deferred) + deferred, SATURATED)
    return deferred
