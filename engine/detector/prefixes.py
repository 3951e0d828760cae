"""What comes from keys without a row, counted by prefix: leaky demand of an hour in a small table of fixed size.

Three ranks (IPv4 /24, /16; IPv6 /56, /48, /32), each a hashed table of its own. A prefix that finds its places taken wears
the weakest of them down by its own demand before it gets the place (Misra and Gries 1982, with leaking counters): what is
counted is never more than what came, so nobody inherits a flood. A prefix with a live throttle can't be worn down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.detector.constants import (
    HOUR,
    HOUR_MS,
    NEWCOMER_RATE_SHARE,
    PREFIX_BITS_V4,
    PREFIX_BITS_V6,
    PREFIX_NEWCOMERS,
    PREFIX_SETS,
    PREFIX_SHIFTS,
    PREFIX_TERM_MS,
    PREFIX_WAYS,
    PROBATION_DAYS,
    RATE_FALL,
)
from engine.detector.expiry import mark, push
from engine.detector.hash_table import hash_key
from engine.detector.layout import PASSED, WAITING
from engine.detector.limits import limit
from engine.detector.token_bucket import burst
from engine.detector.verdict import RELEASE, THROTTLE
from topics.columns.jit import inline, kernel
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


NO_RANK = -1


@inline
def _place(state: Any, prefix: Any, rank: int) -> Any:
    """The place of a prefix that has one."""
    return state.flood[rank, set_of(prefix), find_prefix(state.flood, prefix, rank)]


@inline
def covering(state: Any, key: Any) -> int:
    """The rank of the longest prefix of a key that is throttled, NO_RANK without one."""
    if state.cursor[0].held > 0:
        for rank in range(ranks(key)):
            prefix = prefix_of(key, rank)
            way = find_prefix(state.flood, prefix, rank)
            if way != NO_PLACE and state.flood[rank, set_of(prefix), way].until_ms > 0:
                return rank
    return NO_RANK


@inline
def length(key: Any, rank: int) -> int:
    """Bits of the prefix of that rank around a key."""
    return (PREFIX_BITS_V4 if key >= IPV4_TAG else PREFIX_BITS_V6) - PREFIX_SHIFTS[rank]


@inline
def bound(site: Any, rank: int, threshold: float) -> float:
    """Messages of an hour that the keys without a row of one prefix may send."""
    return threshold * PREFIX_NEWCOMERS[rank] * site.limit[HOUR]


@inline
def _hold(state: Any, place: Any, rank: int, t_ms: int, threshold: float) -> bool:
    """Set or extend a prefix's throttle; False when its demand allows none, or what is in force says enough."""
    allowed = bound(state.site[0], rank, threshold)
    rate = NEWCOMER_RATE_SHARE * allowed
    if place.demand <= allowed:
        return False
    if place.until_ms > 0 and 2 * (place.until_ms - t_ms) >= PREFIX_TERM_MS and rate > RATE_FALL * place.rate_per_h:
        return False
    cursor = state.cursor[0]
    if place.until_ms == 0:
        cursor.held += 1
    place.until_ms = max(place.until_ms, t_ms + PREFIX_TERM_MS)
    place.rate_per_h = rate
    cursor.held_ms = place.until_ms if cursor.held == 1 else min(cursor.held_ms, place.until_ms)
    return True


@kernel
def count_stranger(state: Any, key: Any, t_ms: int, amount: float, threshold: float) -> int:
    """Count the demand of a key without a row; the rank of the prefix that has to be throttled, NO_RANK without one."""
    if amount == 0.0:
        return NO_RANK
    state.cursor[0].flood_changed = 1
    rank = covering(state, key)
    if rank != NO_RANK:
        count_prefix(state.flood, prefix_of(key, rank), rank, t_ms, amount)
        return rank if _hold(state, _place(state, prefix_of(key, rank), rank), rank, t_ms, threshold) else NO_RANK
    found = NO_RANK
    for rank in range(ranks(key)):
        prefix = prefix_of(key, rank)
        way = count_prefix(state.flood, prefix, rank, t_ms, amount)
        if way == NO_PLACE or found != NO_RANK:
            continue
        if _hold(state, state.flood[rank, set_of(prefix), way], rank, t_ms, threshold):
            found = rank
    return found


@inline
def write_prefix(verdict: Any, state: Any, key: Any, rank: int, threshold: float) -> None:
    """The decision for the prefix of a key, and its evidence."""
    place = _place(state, prefix_of(key, rank), rank)
    verdict.kind = THROTTLE
    verdict.key, verdict.prefix, verdict.within = place.key, length(key, rank), 0
    verdict.until_ms = place.until_ms
    verdict.rate_per_h = place.rate_per_h
    verdict.burst = burst(place.rate_per_h)
    verdict.threshold = threshold
    verdict.scales = 1 << HOUR
    verdict.active_days = verdict.first_seen_s = 0
    verdict.pool = 0
    verdict.pool_keys = verdict.pool_volume = verdict.pool_usual = 0.0
    verdict.counter[:] = 0.0
    verdict.limit[:] = 0.0
    verdict.memory[:] = 0.0
    verdict.counter[HOUR] = place.demand
    verdict.limit[HOUR] = bound(state.site[0], rank, threshold)


@kernel
def lapse_prefix(state: Any, verdict: Any) -> bool:
    """Release the throttled prefix that ends first (by end, key, rank) if it has ended; whether it has."""
    cursor, first = state.cursor[0], (0, 0, NO_PLACE)
    for rank in range(len(PREFIX_SHIFTS)):
        for line in range(PREFIX_SETS):
            for way in range(PREFIX_WAYS):
                place, best = state.flood[rank, line, way], state.flood[first[0], first[1], max(first[2], 0)]
                if place.until_ms == 0:
                    continue
                sooner = place.until_ms < best.until_ms or (place.until_ms == best.until_ms and place.key < best.key)
                if first[2] == NO_PLACE or sooner:
                    first = (rank, line, way)
    place = state.flood[first[0], first[1], first[2]]
    cursor.held_ms = place.until_ms
    if place.until_ms > state.site[0].clock_ms:
        return False
    verdict.kind, verdict.key, verdict.prefix = RELEASE, place.key, length(place.key, first[0])
    verdict.until_ms = place.until_ms
    place.until_ms = 0
    cursor.held -= 1
    cursor.flood_changed = 1
    return True


@kernel
def let_pass(state: Any, number: int, t_ms: int, threshold: float) -> int:
    """Let a known sender under a throttled prefix go on at its own hourly limit; the prefix's length, 0 when nothing has
    to be said: it is no known sender, no prefix of it is throttled, or its own decision says enough."""
    row, site = state.rows[number], state.site[0]
    rank = covering(state, row.key)
    if rank == NO_RANK or row.active_days <= PROBATION_DAYS:
        return 0
    until_ms = _place(state, prefix_of(row.key, rank), rank).until_ms
    if row.flags & WAITING:
        enough = 2 * (row.until_ms - t_ms) >= PREFIX_TERM_MS or until_ms <= row.until_ms
        if not row.flags & PASSED or enough:
            return 0
    rate = limit(row, site, HOUR, threshold)
    row.until_ms = max(row.until_ms, until_ms)
    row.rate_per_h = rate
    row.tokens = burst(rate)
    row.flags |= PASSED
    if not row.flags & WAITING:
        row.flags |= WAITING
        push(state, number, row.until_ms)
    mark(state, number)
    return length(row.key, rank)
