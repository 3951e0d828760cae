"""An event in its pools: counted while its key is younger than a week, and whether a pool throttles the key.

A pool's alarm throttles its newcomers (young, and of three active days at most) one by one, each at its next event, and
never an established neighbour; about 4,096 in an hour: what is beyond is a flood, and each of it has the newcomer's ceiling
still. In shadow the /16 rule only counts the events that it would have answered.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.constants import (
    LEARN_AFTER_MS,
    NARROW,
    POOL_AGE_MS,
    POOL_MS,
    POOL_THROTTLES,
    PROBATION_DAYS,
    RELAY,
    WIDE,
)
from engine.detector.expiry import mark
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import ALARMED
from engine.detector.pool_table import use_pool
from engine.detector.pools import alarmed, count_in_pool, open_pool, pool_key
from engine.detector.relays import NO_RELAY, relay_of
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64


@inline
def is_young(row: Any, t_ms: int) -> bool:
    """Whether the key counts in its pools."""
    return t_ms - int64(row.first_seen_s) * 1000 < POOL_AGE_MS


@inline
def _count(state: Any, key: Any, level: int, event: Any) -> int:
    """Count an event, (time, use, demand, new keys, whether it may teach the site, guess), in one pool; the pool's number."""
    t_ms, used, amount, new_keys, teaches, guess = event
    pools, site = state.pools, state.site[0]
    number = use_pool(pools, key, used, guess)
    pool = pools.rows[number]
    if pool.weight == 0.0:
        open_pool(pool, site, level, t_ms, teaches)
    count_in_pool(pool, site, level, (t_ms, amount, new_keys, teaches))
    mark(pools, number)
    return number


@inline
def _may_throttle(site: Any, t_ms: int) -> bool:
    """Fade the count of pools' throttles to ``t_ms``; whether there is room for one more."""
    elapsed_ms = t_ms - site.pool_throttles_ms
    if elapsed_ms > 0:
        site.pool_throttles *= math.exp(-elapsed_ms / POOL_MS)
        site.pool_throttles_ms = t_ms
    return bool(site.pool_throttles < POOL_THROTTLES)


@kernel
def crowd(state: Any, row: Any, event: Any, policy: Any) -> int:
    """Count an event of a young key in its pools; the number of the widest that throttles the key, NO_ROW without one.

    ``event``: (t_ms, offset, demand, 1 for the key's first event else 0, guesses at the rows of its pools: int64[2])."""
    t_ms, offset, amount, new_keys, guesses = event
    site, found, relay = state.site[0], NO_ROW, relay_of(policy.relays, row.key)
    teaches = t_ms - site.first_ms >= LEARN_AFTER_MS
    if not teaches:
        new_keys = 0
    level = WIDE if relay == NO_RELAY else RELAY
    while level >= NARROW:
        key = relay if level == RELAY else pool_key(row.key, level)
        used, guess = 2 * offset + (level == NARROW), guesses[min(level, WIDE)]
        number = _count(state, key, level, (t_ms, used, amount, new_keys, teaches, guess))
        if level == RELAY:
            break
        pool = state.pools.rows[number]
        if alarmed(pool, site, level, policy.pool_keys[level], t_ms) and row.active_days <= PROBATION_DAYS:
            if level == WIDE and policy.shadow:
                site.shadowed += 1
            elif found == NO_ROW:
                found = number
        teaches = teaches and not pool.flags & ALARMED
        level -= 1
    if found != NO_ROW and not _may_throttle(site, t_ms):
        site.overcrowded += 1
        return NO_ROW
    return found
