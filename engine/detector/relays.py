"""Relays that the operator has announced, and the one that an address key belongs to.

Networks are inclusive ranges of keys, sorted and disjoint, so a look-up is one binary search; without relays it is one
comparison. A relay's pool key is a hash of its name, so the order of names and networks in a configuration has no effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.constants import RELAY
from topics.columns.jit import inline
from topics.networks import key_range

NO_RELAY = 0


class Relays(NamedTuple):
    """The networks of all announced relays, as columns."""

    first: npt.NDArray[np.uint64]  # first key of each network
    last: npt.NDArray[np.uint64]  # last key of each network
    pool: npt.NDArray[np.uint64]  # pool key of its relay


def relay_key(name: str) -> int:
    """Return the pool key of an announced relay: 56 bits of its name's SHA-256 below the level."""
    return (RELAY + 1) << 56 | int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def relays_of(networks: Mapping[str, Sequence[str]]) -> Relays:
    """Return the ranges of relays given as name to networks (CIDR). Raise ValueError for a network that can't be used."""
    ranges = sorted((*key_range(network), relay_key(name)) for name, cidrs in networks.items() for network in cidrs)
    columns = np.array(ranges, np.uint64).reshape(-1, 3)
    return Relays(*(np.ascontiguousarray(columns[:, i]) for i in range(3)))


NO_RELAYS = relays_of({})


@inline
def relay_of(relays: Any, key: Any) -> Any:
    """Return the pool key of the relay that an address key belongs to, NO_RELAY if there is none."""
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
