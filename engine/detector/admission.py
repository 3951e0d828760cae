"""Who gets a row: everybody while there is room; then whoever comes twice, or with more than a newcomer may send at once.

Under a prefix that is throttled nobody gets a row of the last sixteenth: a flood is told by its prefix, not by its
addresses. Without a row an event is counted as untracked, and for its prefix (`engine.detector.prefixes`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.detector.cohort import enter
from engine.detector.constants import (
    DAY_MS,
    DOOR_BITS,
    DOOR_HASHES,
    DOOR_KEYS,
    FREE_SHARE,
    SLOW,
    TYPICAL_WEIGHT_FIRST,
    WEIGHT_UNITS,
)
from engine.detector.hash_table import NO_ROW, hash_key, insert
from engine.detector.prefixes import NO_RANK, covering
from engine.detector.relays import NO_RELAY, relay_of
from topics.columns.jit import inline, kernel
from topics.columns.keys import partition_of_key
from topics.columns.memory import int64

FULL = -2


@inline
def _exceeds(site: Any, amount: float, threshold: float) -> bool:
    """Whether one event is beyond what a newcomer may send: it is worth a row, as it leads to a decision."""
    least = math.inf
    for s in range(SLOW):
        least = min(least, site.limit[s])
    return amount > threshold * least


@inline
def _may_enter(state: Any, key: Any, amount: float, threshold: float) -> bool:
    """Whether a key may have a row though the table is nearly full."""
    if covering(state, key) != NO_RANK:
        return False
    return _exceeds(state.site[0], amount, threshold) or knock(state, key)


@kernel
def admit(state: Any, key: Any, event: Any, policy: Any, room: Any) -> int:
    """A row for a key that has none: its number; NO_ROW when it has to wait; FULL when the table is to be swept, and this
    event to come again. ``event``: (time, demand); ``room``: (scratch: uint8[], seed)."""
    t_ms, amount = event
    scratch, seed = room
    site, rows, capacity = state.site[0], state.cursor[0].rows, state.rows.shape[0]
    if t_ms < site.horizon_ms:
        return NO_ROW
    if rows >= capacity - capacity // FREE_SHARE:
        if not _may_enter(state, key, amount, policy.threshold):
            return NO_ROW
        if rows == capacity:
            return FULL if site.clock_ms >= site.sweep_after_ms else NO_ROW
    number = insert(state, key, hash_key(key, seed))
    row = state.rows[number]
    row.last_ms = t_ms
    row.first_seen_s = t_ms // 1000
    row.day = t_ms // DAY_MS
    row.typical = math.log(1.0 + site.q50)
    row.weight = int64(TYPICAL_WEIGHT_FIRST * WEIGHT_UNITS)
    if relay_of(policy.relays, key) == NO_RELAY:
        enter(site, row, t_ms)
    if partition_of_key(key, policy.partitions, scratch) != policy.partition:
        site.miskeyed += 1
    return number


_SEED = np.uint64(0x71DE6A7E_D0012EE9)
_MASK = np.uint64((1 << DOOR_BITS) - 1)


@inline
def knock(state: Any, key: Any) -> bool:
    """Whether a key has (most likely) been at the door before; it has now."""
    door, one = state.door[0], np.uint64(1)
    mixed = hash_key(key, _SEED)
    stride = (mixed >> np.uint64(32)) | one
    known, at = True, mixed
    for _ in range(DOOR_HASHES):
        bit = at & _MASK
        known = known and ((door.bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & one) == one
        at += stride
    if known:
        return True
    if door.keys == DOOR_KEYS:
        door.bits[:] = np.uint64(0)
        door.keys = 0
    at = mixed
    for _ in range(DOOR_HASHES):
        bit = at & _MASK
        door.bits[bit >> np.uint64(6)] |= one << (bit & np.uint64(63))
        at += stride
    door.keys += 1
    state.cursor[0].door_changed = 1
    return False
