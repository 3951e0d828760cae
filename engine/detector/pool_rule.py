"""The pool rule: count an event in its sender's pools, and decide whether a pool in alarm throttles the sender.

An event counts while its sender is younger than a week. An alarm throttles the pool's newcomers (young, three active days at
most) one by one, each at its next event, and never an established neighbour. About 4,096 such throttles an hour are allowed;
more senders are a flood, and each of them still has the newcomer's limit. In shadow the /16 rule only counts the events that
it would have throttled.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.constants import NARROW, POOL_AGE_MS, POOL_MS, POOL_THROTTLES, PROBATION_DAYS, RELAY, WIDE
from engine.detector.expiry import mark_dirty
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import ALARMED
from engine.detector.pool_table import use_pool
from engine.detector.pools import count_in_pool, has_scale, open_pool, pool_key, update_alarm
from engine.detector.relays import NO_RELAY, relay_of
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64


@inline
def is_young(row: Any, t_ms: int) -> bool:
    """Return True if the sender counts in its pools."""
    return t_ms - int64(row.first_seen_s) * 1000 < POOL_AGE_MS


@inline
def _count(state: Any, key: Any, level: int, event: Any, trains: bool) -> int:
    """Count a PoolEvent in one pool. Return the pool's row number."""
    pools, site = state.pools, state.site[0]
    number = use_pool(pools, key, 2 * event.offset + (level == NARROW), event.slots[min(level, WIDE)])
    pool = pools.rows[number]
    if pool.weight == 0.0:
        open_pool(pool, site, level, event.t_ms, trains)
    count_in_pool(pool, site, level, event, trains)
    mark_dirty(pools, number)
    return number


@inline
def _may_throttle(site: Any, t_ms: int) -> bool:
    """Decay the count of pool throttles to `t_ms`. Return True if one more is allowed."""
    elapsed_ms = t_ms - site.pool_throttles_ms
    if elapsed_ms > 0:
        site.pool_throttles *= math.exp(-elapsed_ms / POOL_MS)
        site.pool_throttles_ms = t_ms
    return bool(site.pool_throttles < POOL_THROTTLES)


@kernel
def evaluate_pools(state: Any, row: Any, event: Any, policy: Any) -> int:
    """Count a PoolEvent of a young sender in its pools.

    Return the number of the widest pool whose alarm throttles the sender, NO_ROW if none does.
    """
    site, chosen, relay = state.site[0], NO_ROW, relay_of(policy.relays, row.key)
    trains = has_scale(site, event.t_ms)
    level = WIDE if relay == NO_RELAY else RELAY
    while level >= NARROW:
        number = _count(state, relay if level == RELAY else pool_key(row.key, level), level, event, trains)
        if level == RELAY:
            break
        pool = state.pools.rows[number]
        in_alarm = update_alarm(pool, site, level, policy.pool_keys[level], event.t_ms)
        if in_alarm and row.active_days <= PROBATION_DAYS:
            if level == WIDE and policy.pool_shadow:
                site.pool_shadowed += 1
            elif chosen == NO_ROW:
                chosen = number
        trains = trains and not pool.flags & ALARMED
        level -= 1
    if chosen != NO_ROW and not _may_throttle(site, event.t_ms):
        site.pool_over_limit += 1
        return NO_ROW
    return chosen
