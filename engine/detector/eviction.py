"""Eviction: a full table loses the rows that have been kept long enough, a sixteenth of its capacity at a time.

A sweep happens at the event that needs the row; its horizon is a function of the rows and the partition's clock, never of
their order, so it is the same wherever blocks end. Established senders and live throttles lie beyond the clock and stay.
One pass over the table and a new index: 0.06 s for a million rows, once in 65,536 new ones. A sweep that would find too
little does nothing, and is tried again an hour (of event time) later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.detector.constants import (
    FREE_SHARE,
    KEEP_KNOWN_MS,
    KEEP_MOST_MS,
    KEEP_PROBATION_MS,
    PROBATION_DAYS,
    SWEEP_AGAIN_MS,
)
from engine.detector.expiry import requeue
from engine.detector.hash_table import SEED, reindex
from engine.detector.layout import ROW, STORED
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64


@inline
def _bury(state: Any, number: int) -> None:
    """Note a row's key for a tombstone; one that doesn't fit gets it after the next restoration."""
    gone = state.cursor[0].gone
    if state.rows[number].flags & STORED and gone < state.gone.shape[0]:
        state.gone[gone] = state.rows[number].key
        state.cursor[0].gone = gone + 1


@kernel
def file_rows(state: Any, seed: Any) -> None:
    """Build index, queue and list of changed rows for the rows as they lie."""
    reindex(state, seed)
    requeue(state)


@kernel
def drop_rows(state: Any, horizon_ms: int, blank: Any, seed: Any) -> int:
    """Evict the rows that were kept until before ``horizon_ms``, close the ranks; how many. ``blank``: ROW[1], zero."""
    rows = state.cursor[0].rows
    left = 0
    for number in range(rows):
        if kept_ms(state.rows[number]) < horizon_ms:
            _bury(state, number)
            continue
        if left < number:
            state.rows[left] = state.rows[number]
        left += 1
    for number in range(left, rows):
        state.rows[number] = blank[0]
    state.cursor[0].rows = left
    file_rows(state, seed)
    return rows - left


@kernel
def _sweep(state: Any, room: Any) -> None:
    """Sweep a full table, or put the next attempt off. ``room``: (bins: int64[BINS], blank: ROW[1], seed)."""
    bins, blank, seed = room
    site, rows = state.site[0], state.cursor[0].rows
    for number in range(rows):
        state.queue_ms[number] = kept_ms(state.rows[number])  # the queue is built again in any case
    found_ms = horizon(state.queue_ms, rows, site.clock_ms, max(1, state.rows.shape[0] // FREE_SHARE), bins)
    if found_ms < 0:
        site.sweep_after_ms = site.clock_ms + SWEEP_AGAIN_MS
        requeue(state)
        return
    site.horizon_ms = max(site.horizon_ms, found_ms)
    site.evicted += drop_rows(state, site.horizon_ms, blank, seed)


def sweep(state: Any) -> None:
    """Make room in a full table, if there are rows that may go."""
    _sweep(state, (np.zeros(BINS, np.int64), np.zeros(1, ROW), SEED))


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
