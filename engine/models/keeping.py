"""How long a row is worth its place, and which moment divides the rows that go from those that stay.

    kept until = max(last event + bonus, end of its latest throttle)
    bonus        newcomer 0, probation 3 days, known 10 days an active day, at most a year

It never goes back, so a row as it was stored once is not kept for longer than the same row today: all rows below the
horizon are dead wherever they are found, and a restoration needs no tombstones to tell them. A newcomer goes in the order
of last sight; a flood of them takes nobody's place but their own.
"""

from __future__ import annotations

from typing import Any

from engine.models.constants import KEEP_KNOWN_MS, KEEP_MOST_MS, KEEP_PROBATION_MS, PROBATION_DAYS
from topics.columns.jit import inline
from topics.columns.memory import int64

BINS = 4096


@inline
def kept_ms(row: Any) -> int:
    """Event time until which a row is kept, whatever comes."""
    active_days = int64(row.active_days)
    bonus_ms = 0
    if active_days > PROBATION_DAYS:
        bonus_ms = min(KEEP_KNOWN_MS * active_days, KEEP_MOST_MS)
    elif active_days > 0:
        bonus_ms = KEEP_PROBATION_MS
    return max(row.last_ms + bonus_ms, row.until_ms)


@inline
def horizon(kept: Any, count: int, clock_ms: int, wanted: int, bins: Any) -> int:
    """The least moment before which at least ``wanted`` of ``kept[:count]`` end, none of them at or after ``clock_ms``; -1
    when there are fewer. By ever finer histograms, so the order of rows is nothing to it. ``bins``: int64[BINS]."""
    least, most, below = clock_ms, clock_ms, 0
    for i in range(count):
        if kept[i] < clock_ms:
            below += 1
            least = min(least, kept[i])
    if below < wanted:
        return -1
    below = 0  # of those that end before `least`
    while most - least > 1:
        width = (most - least + BINS - 1) // BINS
        bins[:] = 0
        for i in range(count):
            if least <= kept[i] < most:
                bins[(kept[i] - least) // width] += 1
        b = 0
        while below + bins[b] < wanted:
            below += bins[b]
            b += 1
        least += b * width
        most = min(most, least + width)
    return most
