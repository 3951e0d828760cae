"""Hash table from key to row: open addressing over dense rows, linear probing, a seeded hash.

An index entry is row number + 1 in the low 27 bits and 5 bits of the hash above them, so a probe of a wrong entry seldom
touches its row. The index has at least twice as many slots as there are rows: about 1.5 probes per look-up.

The hash is splitmix64's finaliser (Steele, Lea, Flood 2014) over key XOR seed. The seed is drawn when the process starts, so
an outsider can't choose addresses that collide. State never depends on it: rows are found by key and kept in order of first
event. A full table accepts no new key (NO_ROW); `engine.detector.eviction` frees rows.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from topics.columns.jit import inline, kernel
from topics.columns.memory import int64, prefetch

NO_ROW = -1
SEED = np.uint64(secrets.randbits(64))
_ROW_BITS = np.uint32((1 << 27) - 1)


@inline
def hash_key(key: Any, seed: Any) -> Any:
    """Return 64 mixed bits of a key."""
    x = key ^ seed
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inline
def find(state: Any, key: Any, mixed: Any) -> int:
    """Return the row number of `key`, NO_ROW if it has none. `mixed` is the key's hash."""
    mask = np.uint64(state.slots.shape[0] - 1)
    tag = np.uint32(mixed >> np.uint64(59)) << np.uint32(27)
    slot = mixed & mask
    while True:
        entry = state.slots[slot]
        if entry == 0:
            return NO_ROW
        if entry & ~_ROW_BITS == tag:
            row = int64(entry & _ROW_BITS) - 1
            if state.rows[row].key == key:
                return row
        slot = (slot + np.uint64(1)) & mask


@inline
def prefetch_slot(state: Any, mixed: Any) -> None:
    """Prefetch the index slot where the look-up of a hash begins."""
    prefetch(state.slots, int64((mixed & np.uint64(state.slots.shape[0] - 1)) << np.uint64(2)))


@inline
def prefetch_row(state: Any, mixed: Any) -> None:
    """Prefetch the row that the hash's first slot names: all of its cache lines."""
    entry = state.slots[mixed & np.uint64(state.slots.shape[0] - 1)]
    if entry != 0:
        size = state.rows.itemsize
        start = (int64(entry & _ROW_BITS) - 1) * size
        prefetch(state.rows, start)
        prefetch(state.rows, start + 64)
        prefetch(state.rows, start + size - 1)


@inline
def insert(state: Any, key: Any, mixed: Any) -> int:
    """Return a new, zeroed row for `key`, which must have none; NO_ROW if the table is full."""
    row = state.cursor[0].rows
    if row >= state.rows.shape[0]:
        return NO_ROW
    state.cursor[0].rows = row + 1
    _index_row(state, row, key, mixed)
    return row


@inline
def _index_row(state: Any, row: int, key: Any, mixed: Any) -> None:
    """Assign a row to `key`, which must have none, and enter it in the index."""
    state.rows[row].key = key
    mask = np.uint64(state.slots.shape[0] - 1)
    slot = mixed & mask
    while state.slots[slot] != 0:
        slot = (slot + np.uint64(1)) & mask
    state.slots[slot] = (np.uint32(mixed >> np.uint64(59)) << np.uint32(27)) | np.uint32(row + 1)


@inline
def reindex(state: Any, seed: Any) -> None:
    """Rebuild the index from the rows."""
    state.slots[:] = np.uint32(0)
    for row in range(state.cursor[0].rows):
        key = state.rows[row].key
        _index_row(state, row, key, hash_key(key, seed))


@kernel
def find_or_insert(state: Any, keys: Any, seed: Any, numbers: Any) -> int:
    """Write the row numbers of `keys` (uint64) to `numbers`, inserting rows for new keys.

    Stop when the table is full. Return how many keys have a row.
    """
    for i in range(keys.shape[0]):
        mixed = hash_key(keys[i], seed)
        row = find(state, keys[i], mixed)
        if row == NO_ROW:
            row = insert(state, keys[i], mixed)
        if row == NO_ROW:
            return i
        numbers[i] = row
    return len(keys)
