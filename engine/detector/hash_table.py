"""Key to row: open addressing over dense rows, linear probing, a seeded hash.

An index entry is row number + 1 in the low 27 bits and 5 bits of the hash above them, so that a probe of a wrong entry
seldom touches its row. The index has at least twice as many places as there are rows: about 1.5 probes a look-up.
The hash is splitmix64's finaliser (Steele, Lea, Flood 2014) over key XOR seed; the seed is drawn at start, so nobody
outside can choose addresses that collide. State never depends on it: rows are found by key, and kept in order of first
sight. A full table takes no new key (NO_ROW): `engine.detector.eviction` makes room.
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
    """64 mixed bits of a key."""
    x = key ^ seed
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inline
def find(state: Any, key: Any, mixed: Any) -> int:
    """The row number of ``key`` (``mixed`` is its hash), NO_ROW when it has none."""
    mask = np.uint64(state.places.shape[0] - 1)
    tag = np.uint32(mixed >> np.uint64(59)) << np.uint32(27)
    place = mixed & mask
    while True:
        entry = state.places[place]
        if entry == 0:
            return NO_ROW
        if entry & ~_ROW_BITS == tag:
            row = int64(entry & _ROW_BITS) - 1
            if state.rows[row].key == key:
                return row
        place = (place + np.uint64(1)) & mask


@inline
def fetch_place(state: Any, mixed: Any) -> None:
    """Have the processor fetch the index entry that the look-up of a hash begins with."""
    prefetch(state.places, int64((mixed & np.uint64(state.places.shape[0] - 1)) << np.uint64(2)))


@inline
def fetch_row(state: Any, mixed: Any) -> None:
    """Have the processor fetch the row that this entry names."""
    entry = state.places[mixed & np.uint64(state.places.shape[0] - 1)]
    if entry != 0:
        size = state.rows.itemsize
        start = (int64(entry & _ROW_BITS) - 1) * size
        prefetch(state.rows, start)
        prefetch(state.rows, start + 64)
        prefetch(state.rows, start + size - 1)


@inline
def insert(state: Any, key: Any, mixed: Any) -> int:
    """A new, zeroed row for ``key``, which has none yet; NO_ROW when all rows are taken."""
    row = state.cursor[0].rows
    if row >= state.rows.shape[0]:
        return NO_ROW
    state.cursor[0].rows = row + 1
    file_row(state, row, key, mixed)
    return row


@inline
def file_row(state: Any, row: int, key: Any, mixed: Any) -> None:
    """Give a row to ``key``, which has none yet: enter it in the index under the key's hash."""
    state.rows[row].key = key
    mask = np.uint64(state.places.shape[0] - 1)
    place = mixed & mask
    while state.places[place] != 0:
        place = (place + np.uint64(1)) & mask
    state.places[place] = (np.uint32(mixed >> np.uint64(59)) << np.uint32(27)) | np.uint32(row + 1)


@inline
def reindex(state: Any, seed: Any) -> None:
    """Build the index again over the rows as they lie."""
    state.places[:] = np.uint32(0)
    for row in range(state.cursor[0].rows):
        key = state.rows[row].key
        file_row(state, row, key, hash_key(key, seed))


@kernel
def place_rows(state: Any, keys: Any, seed: Any, numbers: Any) -> int:
    """Row numbers for ``keys`` (uint64), new rows where there are none; how many of them found a place."""
    for i in range(keys.shape[0]):
        mixed = hash_key(keys[i], seed)
        row = find(state, keys[i], mixed)
        if row == NO_ROW:
            row = insert(state, keys[i], mixed)
        if row == NO_ROW:
            return i
        numbers[i] = row
    return len(keys)
