"""The table of pools: a fixed number of rows per partition, eight slots per pool, recycled by time of last use.

A pool's hash names eight adjacent rows. A new pool gets a free one, or the one that was used longest ago. So which pools are
kept depends on the order of events alone, and a restored partition repeats it from the offsets in the rows; which of its eight
slots a pool has doesn't matter. One pool row per sixteen senders is plenty, because a pool's counts decay within hours;
recycling only loses a pool's own history, and the site's then replaces it. The hash isn't seeded: an attacker who pushes a
pool out by filling its slots with eight others gains nothing, as each of those is watched as well.

Nothing is chained or moved, so a look-up touches one cache line of keys and one row, both prefetched. Rejected: the index of
senders plus a list by last use; an event touched ten cache lines (three times the time of all other work).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import POOL_WAYS
from engine.detector.hash_table import NO_ROW, hash_key
from engine.detector.layout import CACHE_LINE, DIRTY, STORED, Pools
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64, prefetch

_SEED = np.uint64(0)


@inline
def _first_slot(pools: Any, key: Any) -> int:
    return int64(hash_key(key, _SEED) & np.uint64(pools.keys.shape[0] - POOL_WAYS))


@inline
def _find(pools: Any, first: int, key: Any) -> int:
    """Return the pool's row number among the eight from `first` on, NO_ROW if it has none.

    Compares all eight: which one matches is unpredictable, so leaving the loop early costs a branch misprediction.
    """
    match = NO_ROW
    for number in range(first, first + POOL_WAYS):
        if pools.keys[number] == key:
            match = number
    return match


@inline
def prefetch_keys(pools: Any, key: Any) -> int:
    """Prefetch the keys that the look-up of a pool compares. Return its first slot."""
    first = _first_slot(pools, key)
    prefetch(pools.keys, 8 * first)
    return first


@inline
def prefetch_pool(pools: Any, first: int, key: Any) -> int:
    """Prefetch a pool's row, or the eight that a new pool chooses from. Return the row's number, or the first slot."""
    number = _find(pools, first, key)
    if number != NO_ROW:
        prefetch(pools.rows, CACHE_LINE * number)
        return number
    for number in range(first, first + POOL_WAYS):
        prefetch(pools.rows, CACHE_LINE * number)
    return first


@inline
def _oldest(pools: Any, first: int) -> int:
    """Return a free row of the eight, or the one that was used longest ago."""
    oldest = first
    for number in range(first, first + POOL_WAYS):
        if pools.keys[number] == 0:
            return number
        if pools.rows[number].last_use < pools.rows[oldest].last_use:
            oldest = number
    return oldest


@inline
def _assign(pools: Any, number: int, key: Any) -> None:
    """Assign a row to `key`, with a tombstone for the pool that it replaces."""
    cursor, flags = pools.cursor[0], pools.rows[number].flags
    if pools.keys[number] == 0:
        cursor.rows += 1
    elif flags & STORED and cursor.tombstones < pools.tombstones.shape[0]:
        pools.tombstones[cursor.tombstones] = pools.keys[number]
        cursor.tombstones += 1
    pools.keys[number] = key
    pools.rows[number].key = key
    pools.rows[number].flags = flags & DIRTY
    pools.rows[number].weight = 0.0


@inline
def use_pool(pools: Any, key: Any, last_use: int, slot: int) -> int:
    """Return the row number of the pool that an event counts in; a new pool's row has weight 0.

    `last_use` must exceed all earlier values. `slot` is any row number, at best the pool's, which saves the look-up.
    """
    number = slot
    if pools.keys[slot] != key:
        first = _first_slot(pools, key)
        number = _find(pools, first, key)
        if number == NO_ROW:
            number = _oldest(pools, first)
            _assign(pools, number, key)
    pools.rows[number].last_use = last_use
    return number


@kernel
def restore_pools(pools: Any, records: Any) -> None:
    """Restore stored pools (POOL[]) as unchanged; of two records of a key the later one in `records` counts.

    Of the pools that share eight slots, the eight used last are kept, whatever the order of the records.
    """
    for i in range(records.shape[0]):
        record = records[i]
        first = _first_slot(pools, record.key)
        number = _find(pools, first, record.key)
        if number == NO_ROW:
            number = _oldest(pools, first)
            if pools.keys[number] != 0 and pools.rows[number].last_use > record.last_use:
                continue
            _assign(pools, number, record.key)
        pools.rows[number] = record
        pools.rows[number].flags = (record.flags & ~DIRTY) | STORED
    pools.cursor[0].tombstones = 0


def drain_tombstones(pools: Pools) -> npt.NDArray[np.uint64]:
    """Return the keys replaced since the last call, and forget them."""
    count = int(pools.cursor["tombstones"][0])
    pools.cursor["tombstones"] = 0
    return pools.tombstones[:count].copy()
