"""Admission: which senders get a row. All do while there is room; in the last sixteenth of the table only some.

A sender then gets a row if it was seen before, or if one event alone exceeds the newcomer's limit. A Bloom filter of 128 KiB
(the admission filter) remembers keys; it is cleared at 131,072, so some new keys pass unseen (1 in 180 on average, 1 in 40 at
the end). Under a throttled prefix no sender gets a row of the last sixteenth, as a flood shows by its prefix, not by its
addresses. An event of a sender without a row counts as untracked, and for its prefixes (`engine.detector.prefixes`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.detector.cohort import add_newcomer
from engine.detector.constants import (
    DAY_MS,
    FILTER_BITS,
    FILTER_HASHES,
    FILTER_KEYS,
    FREE_SHARE,
    SLOW,
    TYPICAL_WEIGHT_FIRST,
    WEIGHT_UNITS,
)
from engine.detector.hash_table import NO_ROW, hash_key, insert
from engine.detector.prefixes import NO_RANK, throttled_rank
from engine.detector.relays import NO_RELAY, relay_of
from topics.columns.jit import inline, kernel
from topics.columns.keys import partition_of_key
from topics.columns.memory import int64

FULL = -2
_SEED = np.uint64(0x71DE6A7E_D0012EE9)
_MASK = np.uint64((1 << FILTER_BITS) - 1)


@inline
def seen_before(state: Any, key: Any) -> bool:
    """Return True if the filter has a key (most likely), and add the key to it."""
    table, one = state.admission_filter[0], np.uint64(1)
    mixed = hash_key(key, _SEED)
    stride = (mixed >> np.uint64(32)) | one
    is_known, at = True, mixed
    for _ in range(FILTER_HASHES):
        bit = at & _MASK
        is_known = is_known and ((table.bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & one) == one
        at += stride
    if is_known:
        return True
    if table.keys == FILTER_KEYS:
        table.bits[:] = np.uint64(0)
        table.keys = 0
    at = mixed
    for _ in range(FILTER_HASHES):
        bit = at & _MASK
        table.bits[bit >> np.uint64(6)] |= one << (bit & np.uint64(63))
        at += stride
    table.keys += 1
    state.cursor[0].filter_changed = 1
    return False


@inline
def _exceeds(site: Any, demand: float, threshold: float) -> bool:
    """Return True if one event exceeds a newcomer's limit: it is worth a row, as it leads to a decision."""
    least = math.inf
    for s in range(SLOW):
        least = min(least, site.cohort_limit[s])
    return demand > threshold * least


@inline
def _may_have_row(state: Any, key: Any, demand: float, threshold: float) -> bool:
    """Return True if a sender may have a row of the last sixteenth."""
    if throttled_rank(state, key) != NO_RANK:
        return False
    return _exceeds(state.site[0], demand, threshold) or seen_before(state, key)


@kernel
def admit(state: Any, key: Any, t_ms: int, demand: float, policy: Any, scratch: Any) -> int:
    """Return the number of a new row for a sender that has none.

    NO_ROW if the sender stays untracked. FULL if the table must be swept before the event is applied again. `scratch` is the
    detector's `Scratch`.
    """
    site, rows, capacity = state.site[0], state.cursor[0].rows, state.rows.shape[0]
    if t_ms < site.eviction_horizon_ms:
        return NO_ROW
    if rows >= capacity - capacity // FREE_SHARE:
        if not _may_have_row(state, key, demand, policy.threshold):
            return NO_ROW
        if rows == capacity:
            return FULL if site.clock_ms >= site.eviction_retry_ms else NO_ROW
    number = insert(state, key, hash_key(key, scratch.seed))
    row = state.rows[number]
    row.last_ms = t_ms
    row.first_seen_s = t_ms // 1000
    row.day = t_ms // DAY_MS
    row.typical = math.log(1.0 + site.cohort_q50)
    row.weight = int64(TYPICAL_WEIGHT_FIRST * WEIGHT_UNITS)
    if relay_of(policy.relays, key) == NO_RELAY:
        add_newcomer(site, row, t_ms)
    if partition_of_key(key, policy.partitions, scratch.key_text) != policy.partition:
        site.miskeyed += 1
    return number
