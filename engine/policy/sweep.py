"""Eviction: a full table loses the rows that have been kept long enough, a sixteenth of its capacity at a time.

A sweep happens at the event that needs the row; its horizon is a function of the rows and the partition's clock, never of
their order, so it is the same wherever blocks end. Established senders and live throttles lie beyond the clock and stay.
One pass over the table and a new index: 0.06 s for a million rows, once in 65,536 new ones. A sweep that would find too
little does nothing, and is tried again an hour (of event time) later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.models.constants import FREE_SHARE, SWEEP_AGAIN_MS
from engine.models.keeping import BINS, horizon, kept_ms
from engine.models.layout import ROW, STORED
from engine.models.table import SEED, reindex
from engine.policy.lapse import requeue
from topics.columns.jit import inline, kernel


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
