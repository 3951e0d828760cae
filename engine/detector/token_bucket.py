"""The token bucket of a live throttle, as an edge would have it: what it let through, what it held back.

The engine counts what its own decisions cost, without labels and without being told: a replay and a shadow have no edge,
and a live edge reports a deferral as an event of outcome `deferred`, which is taken at its word. Burst is an hour's worth
of the rate, one message at least. What was held back waits in the row, at most 65,535 messages, until a day closes
(`engine.detector.budget`).
"""

from __future__ import annotations

from typing import Any

from engine.detector.constants import HOUR_MS, SATURATED
from topics.columns.jit import inline
from topics.columns.memory import float64, int64
from topics.columns.scan import ACCEPTED, DEFERRED

WHOLE = 1e-6  # a token that rounding has taken this much from is whole


@inline
def burst(rate_per_h: float) -> float:
    """A bucket's size."""
    return max(1.0, rate_per_h)


@inline
def refill(row: Any, elapsed_ms: int) -> None:
    """Let the tokens of so long into the row's bucket."""
    if elapsed_ms > 0:
        rate = float64(row.rate_per_h)
        row.tokens = min(burst(rate), float64(row.tokens) + rate * elapsed_ms / HOUR_MS)


@inline
def spend(row: Any, messages: int, outcome: int) -> int:
    """Take an event's messages from the row's bucket; how many regular ones were held back."""
    held = messages
    if outcome != DEFERRED:
        passed = min(messages, int64(float64(row.tokens) + WHOLE))
        row.tokens = float64(row.tokens) - passed
        held = messages - passed if outcome == ACCEPTED else 0
    row.held = min(int64(row.held) + held, SATURATED)
    return held
