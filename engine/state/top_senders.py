"""The top senders: those whose last hour exceeds by most what was expected of them.

Expected is a sender's own baseline of one hour; of a newcomer the Q90 of newcomers. For display, not for decisions. One pass
over the rows, 4 ms for a hundred thousand. It may run while the detector changes the rows; then the fields of one row may be
of two times.
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


class TopSender(NamedTuple):
    """A sender and its last hour."""

    key: int
    messages: float  # decayed count of the last hour
    expected: float
    active_days: int
    throttled_until_ms: int  # 0 without an active throttle


@kernel
def rank_senders(state: Any, t_ms: int, numbers: Any, excess: Any) -> None:
    """Fill `numbers` with the rows whose last hour exceeds the expected one most, and `excess` with the messages above it.

    The greatest comes first. `excess` must be 0 at first and stays 0 where there is no such row.
    """
    rows, newcomers = state.rows, state.site[0].cohort_q90[HOUR]
    for i in range(state.cursor[0].rows):
        elapsed_ms = t_ms - rows[i].last_ms
        if elapsed_ms > RECENT_MS:
            continue
        hour = float64(rows[i].counter[HOUR]) * math.exp(-max(elapsed_ms, 0) / HOUR_MS)
        above = hour - (float64(rows[i].memory[HOUR]) if rows[i].active_days else newcomers)
        rank = len(excess)
        while rank > 0 and above > excess[rank - 1]:
            rank -= 1
            if rank + 1 < len(excess):
                numbers[rank + 1], excess[rank + 1] = numbers[rank], excess[rank]
        if rank < len(excess):
            numbers[rank], excess[rank] = i, above


def top_senders(partition: Partition, limit: int) -> list[TopSender]:
    """Return at most `limit` top senders at the partition's clock."""
    state, t_ms = partition.state, int(partition.state.site["clock_ms"][0])
    numbers, excess = np.zeros(limit, np.int64), np.zeros(limit)
    rank_senders(state, t_ms, numbers, excess)
    newcomers = float(state.site["cohort_q90"][0][HOUR])
    return [_top_sender(state.rows[number], newcomers, t_ms) for number in numbers[excess > 0].tolist()]


def _top_sender(row: Any, newcomers: float, t_ms: int) -> TopSender:
    elapsed_ms = max(0, t_ms - int(row["last_ms"]))
    hour = float(row["counter"][HOUR]) * math.exp(-elapsed_ms / HOUR_MS)
    until_ms = int(row["until_ms"])
    days = int(row["active_days"])
    expected = float(row["memory"][HOUR]) if days else newcomers
    return TopSender(int(row["key"]), hour, expected, days, until_ms if until_ms > t_ms else 0)
