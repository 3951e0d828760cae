"""Where pools are kept: a fixed number of rows a partition, found by the key table's look-up, recycled by age of use.

When all rows are taken, a new pool takes the row of the one that was used longest ago. So the table always holds the pools
that were used last, whatever their places: an order of events alone, which a restored partition has again from the
offsets in the rows. Counts of a pool fade within hours and one row in sixteen keys is plenty; what recycling forgets is
a pool's own history, and then the site's stands in for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.models.layout import DIRTY, Pools
from engine.models.table import NO_ROW, SEED, file_row, find, hash_key, insert, place_rows, unfile_row
from topics.columns.jit import inline
from topics.columns.memory import int64


@inline
def _unlink(pools: Any, number: int) -> None:
    older, newer = int64(pools.links[number, 0]), int64(pools.links[number, 1])
    if older == NO_ROW:
        pools.cursor[0].oldest = newer
    else:
        pools.links[older, 1] = newer
    if newer == NO_ROW:
        pools.cursor[0].newest = older
    else:
        pools.links[newer, 0] = older


@inline
def _link_newest(pools: Any, number: int) -> None:
    newest = pools.cursor[0].newest
    pools.links[number, 0], pools.links[number, 1] = newest, NO_ROW
    if newest == NO_ROW:
        pools.cursor[0].oldest = number
    else:
        pools.links[newest, 1] = number
    pools.cursor[0].newest = number


@inline
def _recycle(pools: Any, seed: Any) -> int:
    """Empty the row of the pool that was used longest ago; its number."""
    number = int64(pools.cursor[0].oldest)
    _unlink(pools, number)
    if pools.cursor[0].gone < pools.gone.shape[0]:
        pools.gone[pools.cursor[0].gone] = pools.rows[number].key
        pools.cursor[0].gone += 1
    unfile_row(pools, number, seed)
    return number


@inline
def use_pool(pools: Any, key: Any, used: int, seed: Any) -> int:
    """The row of a pool that an event counts in, the newest from now on; a fresh one has ``weight`` 0."""
    mixed = hash_key(key, seed)
    number = find(pools, key, mixed)
    if number == NO_ROW:
        number = insert(pools, key, mixed)
        if number == NO_ROW:
            number = _recycle(pools, seed)
            file_row(pools, number, key, mixed)
        pools.rows[number].weight = 0.0
        _link_newest(pools, number)
    elif number != pools.cursor[0].newest:
        _unlink(pools, number)
        _link_newest(pools, number)
    pools.rows[number].used = used
    return number


def take_gone(pools: Pools) -> npt.NDArray[np.uint64]:
    """The keys recycled since the last call."""
    count = int(pools.cursor["gone"][0])
    pools.cursor["gone"] = 0
    return pools.gone[:count].copy()


def latest_pools(records: npt.NDArray[Any], pools: Pools) -> npt.NDArray[Any]:
    """Of ``records`` (POOL[], a key's later one after its earlier) those that a table holds, in the order of their use."""
    _, last = np.unique(records["key"][::-1], return_index=True)
    each = records[::-1][last]
    return each[np.argsort(each["used"])][-len(pools.rows) :]


def restore_pools(pools: Pools, kept: npt.NDArray[Any]) -> None:
    """Make a table hold these pools, which come in the order of their use, and take every one as unchanged."""
    pools.places[:] = 0
    pools.cursor[0] = (0, 0, len(kept) - 1, 0 if len(kept) else NO_ROW, 0)
    numbers = np.empty(len(kept), np.int64)
    place_rows(pools, kept["key"], SEED, numbers)
    kept["flags"] &= ~np.uint8(DIRTY)
    pools.rows[numbers] = kept
    pools.links[: len(kept), 0] = numbers - 1
    pools.links[: len(kept), 1] = numbers + 1
    pools.links[len(kept) - 1 : len(kept), 1] = NO_ROW
