"""Who sends the most beyond what was expected: the rows whose last hour is the furthest above their own busiest one, a
newcomer's above what nine of ten newcomers stay below.

For a look at the whole table, not for decisions. One pass over the rows in the order in which they lie, 4 ms for a hundred
thousand; it may run beside the detector, on rows that change under it: what it reads of one row may then be of two moments.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from engine.detector.constants import HOUR, HOUR_MS
from engine.state.partition import Partition
from topics.columns.jit import kernel
from topics.columns.memory import float64

RECENT_MS = 3 * HOUR_MS


class Mover(NamedTuple):
    """``messages``: leaky count of the last hour; ``expected``: its own most in an hour, or newcomers'."""

    key: int
    messages: float
    expected: float
    active_days: int
    throttled_until_ms: int


@kernel
def find_movers(state: Any, t_ms: int, numbers: Any, excess: Any) -> None:
    """Fill ``numbers`` with the rows whose hour exceeds what was expected the most, and ``excess`` (0 at first) with by how
    much, in messages, the greatest first."""
    rows, newcomers = state.rows, state.site[0].q90[HOUR]
    for i in range(state.cursor[0].rows):
        elapsed_ms = t_ms - rows[i].last_ms
        if elapsed_ms > RECENT_MS:
            continue
        hour = float64(rows[i].counter[HOUR]) * math.exp(-max(elapsed_ms, 0) / HOUR_MS)
        beyond = hour - (float64(rows[i].memory[HOUR]) if rows[i].active_days else newcomers)
        place = len(excess)
        while place > 0 and beyond > excess[place - 1]:
            place -= 1
            if place + 1 < len(excess):
                numbers[place + 1], excess[place + 1] = numbers[place], excess[place]
        if place < len(excess):
            numbers[place], excess[place] = i, beyond


def movers(partition: Partition, most: int) -> list[Mover]:
    """At most so many, as of the partition's clock."""
    state, t_ms = partition.state, int(partition.state.site["clock_ms"][0])
    numbers, excess = np.zeros(most, np.int64), np.zeros(most)
    find_movers(state, t_ms, numbers, excess)
    newcomers = float(state.site["q90"][0][HOUR])
    return [_mover(state.rows[number], newcomers, t_ms) for number in numbers[excess > 0].tolist()]


def _mover(row: Any, newcomers: float, t_ms: int) -> Mover:
    elapsed_ms = max(0, t_ms - int(row["last_ms"]))
    hour = float(row["counter"][HOUR]) * math.exp(-elapsed_ms / HOUR_MS)
    until_ms = int(row["until_ms"])
    days = int(row["active_days"])
    expected = float(row["memory"][HOUR]) if days else newcomers
    return Mover(int(row["key"]), hour, expected, days, until_ms if until_ms > t_ms else 0)
