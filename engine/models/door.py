"""The doorkeeper: when the table is nearly full, a new key gets a row at its second event, not at its first.

A Bloom filter of fixed size (Bloom 1970; two hashes stand for all, Kirsch and Mitzenmacher 2006) that forgets everybody
after DOOR_KEYS keys, so a flood of addresses seen once costs no row. Its hash seed is fixed, as state must not depend on the
process: who exploits that gets a row one event sooner, no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.models.constants import DOOR_BITS, DOOR_HASHES, DOOR_KEYS
from engine.models.table import hash_key
from topics.columns.jit import inline

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
