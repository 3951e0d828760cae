"""Decisions for a prefix: when the keys that have no row send, all together, more than so many newcomers may.

The longest prefix beyond its bound is throttled; what comes under it from then on counts for it alone, so a flood in a /24
doesn't speak for its /16, and a flood over a /16 is one decision and not 256. It is held to a quarter of the bound an hour,
for an hour, and repeated by the rule of all decisions. Edges go by the longest match: a known sender under the prefix gets
a decision of its own at its next event, a retry as well, for the hourly limit that it has earned.
"""

from __future__ import annotations

from typing import Any

from engine.models.bucket import burst
from engine.models.constants import (
    HOUR,
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
from engine.models.flood import NO_PLACE, count_prefix, find_prefix, prefix_of, ranks, set_of
from engine.models.layout import PASSED, WAITING
from engine.models.limits import limit
from engine.policy.lapse import mark, push
from engine.policy.verdicts import RELEASE, THROTTLE
from topics.columns.jit import inline, kernel
from topics.columns.keys import IPV4_TAG

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
