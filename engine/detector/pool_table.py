"""Where pools are kept: a fixed number of rows a partition, eight places a pool, recycled by age of use.

A pool's hash names eight rows that lie side by side; a new pool takes a free one, or that of the eight which was used longest
ago. Which pools are held is so a matter of the order of events alone, and a restored partition finds it in the offsets that
the rows keep; which of the eight a pool has doesn't matter. Counts of a pool fade within hours and one row in sixteen keys
is plenty; what recycling forgets is a pool's own history, and then the site's stands in for it. The hash is not seeded:
who brings eight pools of his into a ninth's places hides nothing, he has made seventeen crowds of one.

Nothing is chained and nothing moves, so a look-up touches one line of keys and one row, both fetched ahead. Rejected: the
key table's index with a list by last use, of which every event touched ten lines (three times the time of all else).
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
def _first_place(pools: Any, key: Any) -> int:
    return int64(hash_key(key, _SEED) & np.uint64(pools.keys.shape[0] - POOL_WAYS))


@inline
def _find(pools: Any, first: int, key: Any) -> int:
    """The pool's row number among the eight from ``first`` on, NO_ROW without one. All eight are compared: which of them it is
    can't be foretold, and a loop that ends early costs a misprediction."""
    found = NO_ROW
    for number in range(first, first + POOL_WAYS):
        if pools.keys[number] == key:
            found = number
    return found


@inline
def fetch_places(pools: Any, key: Any) -> int:
    """Have the processor fetch the keys that the look-up of a pool compares; the first place."""
    first = _first_place(pools, key)
    prefetch(pools.keys, 8 * first)
    return first


@inline
def fetch_pool(pools: Any, first: int, key: Any) -> int:
    """Have the processor fetch a pool's row, or those that a new pool chooses from; the row's number, or the first place."""
    number = _find(pools, first, key)
    if number != NO_ROW:
        prefetch(pools.rows, CACHE_LINE * number)
        return number
    for number in range(first, first + POOL_WAYS):
        prefetch(pools.rows, CACHE_LINE * number)
    return first


@inline
def _oldest(pools: Any, first: int) -> int:
    """A free row of the eight, or the one that was used longest ago."""
    oldest = first
    for number in range(first, first + POOL_WAYS):
        if pools.keys[number] == 0:
            return number
        if pools.rows[number].used < pools.rows[oldest].used:
            oldest = number
    return oldest


@inline
def _give(pools: Any, number: int, key: Any) -> None:
    """Make a row that of ``key``, whosever it was."""
    cursor, flags = pools.cursor[0], pools.rows[number].flags
    if pools.keys[number] == 0:
        cursor.rows += 1
    elif flags & STORED and cursor.gone < pools.gone.shape[0]:
        pools.gone[cursor.gone] = pools.keys[number]
        cursor.gone += 1
    pools.keys[number] = key
    pools.rows[number].key = key
    pools.rows[number].flags = flags & DIRTY
    pools.rows[number].weight = 0.0


@inline
def use_pool(pools: Any, key: Any, used: int, guess: int) -> int:
    """The row of a pool that an event counts in; a fresh one has ``weight`` 0. ``used``: greater than ever before;
    ``guess``: any row's number, at best the pool's."""
    number = guess
    if pools.keys[guess] != key:
        first = _first_place(pools, key)
        number = _find(pools, first, key)
        if number == NO_ROW:
            number = _oldest(pools, first)
            _give(pools, number, key)
    pools.rows[number].used = used
    return number


@kernel
def restore_pools(pools: Any, records: Any) -> None:
    """Put stored pools (POOL[], a key's later one after its earlier) back in place, as unchanged: of those that share their
    places the eight that were used last, in whatever order they come."""
    for i in range(records.shape[0]):
        record = records[i]
        first = _first_place(pools, record.key)
        number = _find(pools, first, record.key)
        if number == NO_ROW:
            number = _oldest(pools, first)
            if pools.keys[number] != 0 and pools.rows[number].used > record.used:
                continue
            _give(pools, number, record.key)
        pools.rows[number] = record
        pools.rows[number].flags = (record.flags & ~DIRTY) | STORED
    pools.cursor[0].gone = 0


def take_gone(pools: Pools) -> npt.NDArray[np.uint64]:
    """The keys recycled since the last call."""
    count = int(pools.cursor["gone"][0])
    pools.cursor["gone"] = 0
    return pools.gone[:count].copy()
