"""Prefixes: decayed demand of senders without a row, in a small table of fixed size, and throttles for whole prefixes.

A key counts in two or three ranks of prefixes (IPv4 /24, /16; IPv6 /56, /48, /32). Each rank is a hashed table of its own. A
prefix that finds no free slot reduces the weakest one's demand by its own, and gets the slot when nothing is left (Misra and
Gries 1982, with decaying counters). So a prefix's count never exceeds its real demand, and no prefix inherits another one's
flood. A throttled prefix can't lose its slot.

The narrowest prefix above its limit is throttled, for an hour; while it is, only that prefix counts. Its known senders get a
pass: a throttle of their own at their hourly limit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
from engine.detector.expiry import mark_dirty, push
from engine.detector.hash_table import hash_key
from engine.detector.layout import PASSED, THROTTLED
from engine.detector.limits import limit
from engine.detector.token_bucket import burst
from engine.detector.verdict import THROTTLE, write_release
from topics.columns.jit import inline, kernel
from topics.columns.keys import IPV4_TAG
from topics.columns.memory import int64

_SEED = np.uint64(0x71DE6A7E_F100DED5)
NO_SLOT = -1
NO_RANK = -1


@inline
def _rank_count(key: Any) -> int:
    """Return how many prefixes a key counts in: two for IPv4, as a /0 would cover all senders."""
    return len(PREFIX_SHIFTS) - 1 if key >= IPV4_TAG else len(PREFIX_SHIFTS)


@inline
def _prefix_of(key: Any, rank: int) -> Any:
    """Return the first key of a key's prefix."""
    shift = np.uint64(PREFIX_SHIFTS[rank])
    return (key >> shift) << shift


@inline
def _prefix_length(key: Any, rank: int) -> int:
    """Return the length of a key's prefix, in bits."""
    return (PREFIX_BITS_V4 if key >= IPV4_TAG else PREFIX_BITS_V6) - PREFIX_SHIFTS[rank]


@inline
def _set_of(prefix: Any) -> int:
    """Return the number of the set that holds a prefix's slots."""
    return int64(hash_key(prefix, _SEED) & np.uint64(PREFIX_SETS - 1))


@inline
def _find_way(prefixes: Any, prefix: Any, rank: int) -> int:
    """Return a prefix's slot in its set, NO_SLOT if it has none."""
    slots = prefixes[rank, _set_of(prefix)]
    for way in range(PREFIX_WAYS):
        if slots[way].key == prefix and (slots[way].until_ms > 0 or slots[way].demand > 0.0):
            return way
    return NO_SLOT


@inline
def _existing(state: Any, prefix: Any, rank: int) -> Any:
    """Return the slot of a prefix that is known to have one."""
    return state.prefixes[rank, _set_of(prefix), _find_way(state.prefixes, prefix, rank)]


@inline
def throttled_rank(state: Any, key: Any) -> int:
    """Return the rank of a key's longest throttled prefix, NO_RANK if none is throttled."""
    if state.cursor[0].throttled_prefixes > 0:
        for rank in range(_rank_count(key)):
            prefix = _prefix_of(key, rank)
            way = _find_way(state.prefixes, prefix, rank)
            if way != NO_SLOT and state.prefixes[rank, _set_of(prefix), way].until_ms > 0:
                return rank
    return NO_RANK


@inline
def _decayed(slot: Any, t_ms: int) -> float:
    """Return a slot's demand at `t_ms`."""
    elapsed_ms = t_ms - slot.last_ms
    return slot.demand * math.exp(-elapsed_ms / HOUR_MS) if elapsed_ms > 0 else slot.demand


@inline
def _add(slot: Any, t_ms: int, amount: float) -> None:
    """Decay a slot's demand to `t_ms` and add to it."""
    slot.demand = _decayed(slot, t_ms) + amount
    slot.last_ms = max(slot.last_ms, t_ms)


@inline
def _replace_weakest(slots: Any, prefix: Any, t_ms: int, amount: float) -> int:
    """Reduce the weakest slot's demand by `amount`, or take the slot if its demand is less. Return the prefix's slot."""
    weakest, least = NO_SLOT, math.inf
    for way in range(PREFIX_WAYS):
        if slots[way].until_ms == 0:
            left = _decayed(slots[way], t_ms)
            if left < least:
                weakest, least = way, left
    if weakest == NO_SLOT:
        return NO_SLOT
    slot = slots[weakest]
    if least >= amount:
        _add(slot, t_ms, -amount)
        return NO_SLOT
    slot.key, slot.last_ms, slot.demand = prefix, t_ms, amount - least
    return weakest


@inline
def _count_prefix(prefixes: Any, prefix: Any, rank: int, t_ms: int, amount: float) -> int:
    """Add demand to a prefix. Return its slot, NO_SLOT while it has none."""
    way = _find_way(prefixes, prefix, rank)
    slots = prefixes[rank, _set_of(prefix)]
    if way == NO_SLOT:
        return _replace_weakest(slots, prefix, t_ms, amount)
    _add(slots[way], t_ms, amount)
    return way


@inline
def _hourly_limit(site: Any, rank: int, threshold: float) -> float:
    """Return the messages an hour that a prefix's senders without a row may send."""
    return threshold * PREFIX_NEWCOMERS[rank] * site.cohort_limit[HOUR]


@inline
def _throttle_prefix(state: Any, slot: Any, rank: int, t_ms: int, threshold: float) -> bool:
    """Start or extend a prefix's throttle. Return False if its demand is within the limit or its throttle suffices."""
    allowed = _hourly_limit(state.site[0], rank, threshold)
    rate = NEWCOMER_RATE_SHARE * allowed
    if slot.demand <= allowed:
        return False
    if slot.until_ms > 0 and 2 * (slot.until_ms - t_ms) >= PREFIX_TERM_MS and rate > RATE_FALL * slot.rate_per_h:
        return False
    cursor = state.cursor[0]
    if slot.until_ms == 0:
        cursor.throttled_prefixes += 1
    slot.until_ms = max(slot.until_ms, t_ms + PREFIX_TERM_MS)
    slot.rate_per_h = rate
    is_only = cursor.throttled_prefixes == 1
    cursor.prefix_expiry_ms = slot.until_ms if is_only else min(cursor.prefix_expiry_ms, slot.until_ms)
    return True


@kernel
def count_untracked(state: Any, key: Any, t_ms: int, amount: float, threshold: float) -> int:
    """Count the demand of a sender without a row. Return the rank of the prefix to throttle, NO_RANK if there is none."""
    if amount == 0.0:
        return NO_RANK
    state.cursor[0].prefixes_changed = 1
    rank = throttled_rank(state, key)
    if rank != NO_RANK:
        prefix = _prefix_of(key, rank)
        _count_prefix(state.prefixes, prefix, rank, t_ms, amount)
        return rank if _throttle_prefix(state, _existing(state, prefix, rank), rank, t_ms, threshold) else NO_RANK
    narrowest = NO_RANK
    for rank in range(_rank_count(key)):
        prefix = _prefix_of(key, rank)
        way = _count_prefix(state.prefixes, prefix, rank, t_ms, amount)
        if way == NO_SLOT or narrowest != NO_RANK:
            continue
        if _throttle_prefix(state, state.prefixes[rank, _set_of(prefix), way], rank, t_ms, threshold):
            narrowest = rank
    return narrowest


@inline
def write_prefix_throttle(verdict: Any, state: Any, key: Any, rank: int, threshold: float) -> None:
    """Write the throttle of a key's prefix with its evidence to a verdict."""
    slot = _existing(state, _prefix_of(key, rank), rank)
    verdict.kind = THROTTLE
    verdict.key, verdict.prefix, verdict.within = slot.key, _prefix_length(key, rank), 0
    verdict.until_ms = slot.until_ms
    verdict.rate_per_h = slot.rate_per_h
    verdict.burst = burst(slot.rate_per_h)
    verdict.threshold = threshold
    verdict.scales = 1 << HOUR
    verdict.active_days = verdict.first_seen_s = 0
    verdict.pool = 0
    verdict.pool_keys = verdict.pool_volume = verdict.pool_usual = 0.0
    verdict.counter[:] = 0.0
    verdict.limit[:] = 0.0
    verdict.memory[:] = 0.0
    verdict.counter[HOUR] = slot.demand
    verdict.limit[HOUR] = _hourly_limit(state.site[0], rank, threshold)


class SlotNumber(NamedTuple):
    """Where a slot is in the table of prefixes."""

    rank: int
    line: int  # number of its set
    way: int


@inline
def _slot_at(state: Any, number: Any) -> Any:
    return state.prefixes[number.rank, number.line, number.way]


@inline
def _is_sooner(slot: Any, other: Any) -> bool:
    """Return True if a throttle expires first, by (end, key)."""
    return bool(slot.until_ms < other.until_ms or (slot.until_ms == other.until_ms and slot.key < other.key))


@inline
def _first_to_expire(state: Any) -> Any:
    """Return the SlotNumber of the throttled prefix that expires first, by (end, key, rank). There must be one."""
    first = SlotNumber(int64(0), int64(0), int64(NO_SLOT))
    for rank in range(len(PREFIX_SHIFTS)):
        for line in range(PREFIX_SETS):
            for way in range(PREFIX_WAYS):
                number = SlotNumber(int64(rank), int64(line), int64(way))
                if _slot_at(state, number).until_ms == 0:
                    continue
                if first.way == NO_SLOT or _is_sooner(_slot_at(state, number), _slot_at(state, first)):
                    first = number
    return first


@kernel
def expire_prefix(state: Any, verdict: Any) -> bool:
    """Release the throttled prefix that expires first, if its throttle has ended. Return True if it was released."""
    cursor, number = state.cursor[0], _first_to_expire(state)
    slot = _slot_at(state, number)
    cursor.prefix_expiry_ms = slot.until_ms
    if slot.until_ms > state.site[0].clock_ms:
        return False
    write_release(verdict, slot.key, _prefix_length(slot.key, number.rank), slot.until_ms)
    slot.until_ms = 0
    cursor.throttled_prefixes -= 1
    cursor.prefixes_changed = 1
    return True


@kernel
def grant_pass(state: Any, number: int, t_ms: int, threshold: float) -> int:
    """Let a known sender under a throttled prefix continue at its own hourly limit.

    Return the prefix's length; 0 if no decision is needed: the sender isn't known, none of its prefixes is throttled, or its
    own throttle suffices.
    """
    row, site = state.rows[number], state.site[0]
    rank = throttled_rank(state, row.key)
    if rank == NO_RANK or row.active_days <= PROBATION_DAYS:
        return 0
    until_ms = _existing(state, _prefix_of(row.key, rank), rank).until_ms
    if row.flags & THROTTLED:
        suffices = 2 * (row.until_ms - t_ms) >= PREFIX_TERM_MS or until_ms <= row.until_ms
        if not row.flags & PASSED or suffices:
            return 0
    rate = limit(row, site, HOUR, threshold)
    row.until_ms = max(row.until_ms, until_ms)
    row.rate_per_h = rate
    row.tokens = burst(rate)
    row.flags |= PASSED
    if not row.flags & THROTTLED:
        row.flags |= THROTTLED
        push(state, number, row.until_ms)
    mark_dirty(state, number)
    return _prefix_length(row.key, rank)
