"""What comes from keys without a row, counted by prefix: leaky demand of an hour in a small table of fixed size.

Three ranks (IPv4 /24, /16; IPv6 /56, /48, /32), each a hashed table of its own. A prefix that finds its places taken wears
the weakest of them down by its own demand before it gets the place (Misra and Gries 1982, with leaking counters): what is
counted is never more than what came, so nobody inherits a flood. A prefix with a live throttle can't be worn down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.models.constants import HOUR_MS, PREFIX_SETS, PREFIX_SHIFTS, PREFIX_WAYS
from engine.models.table import hash_key
from topics.columns.jit import inline
from topics.columns.keys import IPV4_TAG
from topics.columns.memory import int64

_SEED = np.uint64(0x71DE6A7E_F100DED5)
NO_PLACE = -1


@inline
def ranks(key: Any) -> int:
    """How many prefixes a key counts in: an IPv4 /0 would be everybody."""
    return len(PREFIX_SHIFTS) - 1 if key >= IPV4_TAG else len(PREFIX_SHIFTS)


@inline
def prefix_of(key: Any, rank: int) -> Any:
    """The first key of a key's prefix."""
    shift = np.uint64(PREFIX_SHIFTS[rank])
    return (key >> shift) << shift


@inline
def set_of(prefix: Any) -> int:
    """Where the places of a prefix are."""
    return int64(hash_key(prefix, _SEED) & np.uint64(PREFIX_SETS - 1))


@inline
def find_prefix(flood: Any, prefix: Any, rank: int) -> int:
    """The place of a prefix in its set, NO_PLACE without one."""
    places = flood[rank, set_of(prefix)]
    for way in range(PREFIX_WAYS):
        if places[way].key == prefix and (places[way].until_ms > 0 or places[way].demand > 0.0):
            return way
    return NO_PLACE


@inline
def _faded(place: Any, t_ms: int) -> float:
    elapsed_ms = t_ms - place.last_ms
    return place.demand * math.exp(-elapsed_ms / HOUR_MS) if elapsed_ms > 0 else place.demand


@inline
def add_demand(place: Any, t_ms: int, amount: float) -> None:
    """Fade a prefix's demand to ``t_ms`` and add to it."""
    place.demand = _faded(place, t_ms) + amount
    place.last_ms = max(place.last_ms, t_ms)


@inline
def _wear_down(places: Any, prefix: Any, t_ms: int, amount: float) -> int:
    """Take the weakest place, or take from it; the place that the prefix has now."""
    weakest, least = NO_PLACE, math.inf
    for way in range(PREFIX_WAYS):
        if places[way].until_ms == 0:
            left = _faded(places[way], t_ms)
            if left < least:
                weakest, least = way, left
    if weakest == NO_PLACE:
        return NO_PLACE
    place = places[weakest]
    if least >= amount:
        add_demand(place, t_ms, -amount)
        return NO_PLACE
    place.key, place.last_ms, place.demand = prefix, t_ms, amount - least
    return weakest


@inline
def count_prefix(flood: Any, prefix: Any, rank: int, t_ms: int, amount: float) -> int:
    """Add demand to a prefix; its place, NO_PLACE when it has none (yet)."""
    way = find_prefix(flood, prefix, rank)
    places = flood[rank, set_of(prefix)]
    if way == NO_PLACE:
        return _wear_down(places, prefix, t_ms, amount)
    add_demand(places[way], t_ms, amount)
    return way
