"""Relays that the operator has announced: which one an address key belongs to.

Networks are inclusive ranges of keys, sorted and free of overlaps, so a look-up is one binary search; without relays it is
one comparison. A relay's pool key is its name's: the order of names and networks in a configuration never shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.constants import RELAY
from topics.columns.jit import inline
from topics.keys import key_range

NO_RELAY = 0


class Relays(NamedTuple):
    """``first``, ``last``: uint64[networks], the ranges; ``pool``: uint64[networks], the pool key of the relay's name."""

    first: npt.NDArray[np.uint64]
    last: npt.NDArray[np.uint64]
    pool: npt.NDArray[np.uint64]


def relay_key(name: str) -> int:
    """The pool key of an announced relay: 56 bits of its name's SHA-256 below the level."""
    return (RELAY + 1) << 56 | int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def relays_of(networks: Mapping[str, Sequence[str]]) -> Relays:
    """The ranges of relays given as name to networks (CIDR). ValueError says what is wrong with one of them."""
    ranges = sorted((*key_range(network), relay_key(name)) for name, listed in networks.items() for network in listed)
    columns = np.array(ranges, np.uint64).reshape(-1, 3)
    return Relays(*(np.ascontiguousarray(columns[:, i]) for i in range(3)))


NO_RELAYS = relays_of({})


@inline
def relay_of(relays: Any, key: Any) -> Any:
    """The pool key of the relay that an address key belongs to, NO_RELAY without one."""
    low, high = 0, relays.first.shape[0]
    while low < high:
        middle = (low + high) // 2
        if relays.first[middle] <= key:
            low = middle + 1
        else:
            high = middle
    if low == 0 or relays.last[low - 1] < key:
        return np.uint64(NO_RELAY)
    return relays.pool[low - 1]
