"""Whether an event's sender is throttled: the alarm, and the terms of the decision.

Alarm: any counter above its limit, or a crowd of newcomers in the sender's pool. The rate is the sender's typical busy
hour, all day long (a newcomer's: a quarter of its limit over the scale's time), so normal mail flows and only the excess
waits; one of a crowd has a message in four hours. The term is the time constant of the longest exceeded scale, a crowd's
an hour. While a decision has more than half of a term to go, nothing is said unless the rate falls by a fifth; a decision
is extended, never shortened; it lapses by itself.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from engine.models.constants import (
    NEWCOMER_RATE_SHARE,
    POOL_KEYS,
    POOL_RATE_PER_H,
    POOL_TERM_MS,
    RATE_FALL,
    RATE_FLOOR_PER_H,
    SCALE_HOURS,
    SCALE_MS,
    SCALES,
)
from engine.models.layout import PASSED, WAITING
from engine.models.limits import limit
from engine.models.pools import level_of, usual
from engine.models.relays import NO_RELAYS, Relays
from engine.models.table import NO_ROW
from engine.policy.lapse import push
from engine.policy.verdicts import THROTTLE
from topics.columns.jit import inline
from topics.columns.memory import float64


class Policy(NamedTuple):
    """What the operator chose. ``threshold``: T; ``window_ms``: how far an event's stamp may lie from its record's;
    ``partition``/``partitions``: which keys belong here; ``pool_keys``: new keys that make a /24 and a /16 suspicious in one
    partition, 0 for a rule that is off; ``shadow``: the /16 rule is only counted; ``relays``: announced ones."""

    threshold: float
    window_ms: int
    partition: int
    partitions: int
    pool_keys: tuple[float, float] = (POOL_KEYS, POOL_KEYS)
    shadow: bool = False
    relays: Relays = NO_RELAYS


@inline
def rate_per_h(row: Any, site: Any, exceeded: int, threshold: float) -> float:
    """Messages an hour that a throttled key may go on sending."""
    if row.active_days > 0:
        return math.exp(float64(row.typical)) - 1.0 + RATE_FLOOR_PER_H
    rate = math.inf
    for s in range(SCALES):
        if exceeded & (1 << s):
            rate = min(rate, NEWCOMER_RATE_SHARE * limit(row, site, s, threshold) / SCALE_HOURS[s])
    return rate


@inline
def exceeded_scales(row: Any, site: Any, threshold: float) -> int:
    """Bit s is set when the counter of scale s is above its limit."""
    exceeded = 0
    for s in range(SCALES):
        if row.counter[s] > limit(row, site, s, threshold):
            exceeded |= 1 << s
    return exceeded


@inline
def throttle(state: Any, number: int, t_ms: int, alarm: Any, threshold: float) -> bool:
    """Set or extend the row's throttle at ``t_ms``; False when what is in force says enough.

    ``alarm``: (bits of the exceeded scales, number of the pool in alarm or NO_ROW)."""
    row, site = state.rows[number], state.site[0]
    exceeded, pool = alarm
    term_ms = 0 if pool == NO_ROW else POOL_TERM_MS
    for s in range(SCALES):
        if exceeded & (1 << s):
            term_ms = max(term_ms, SCALE_MS[s])
    rate = rate_per_h(row, site, exceeded, threshold) if exceeded else math.inf
    if pool != NO_ROW:
        rate = min(rate, POOL_RATE_PER_H)
    said = row.flags & WAITING and not row.flags & PASSED
    if said and 2 * (row.until_ms - t_ms) >= term_ms and rate > RATE_FALL * float64(row.rate_per_h):
        return False
    row.until_ms = max(row.until_ms, t_ms + term_ms)
    row.rate_per_h = rate
    row.burst = max(1.0, rate)
    row.flags &= ~PASSED
    if not row.flags & WAITING:
        row.flags |= WAITING
        push(state, number, row.until_ms)
    return True


@inline
def write_throttle(verdict: Any, state: Any, number: int, alarm: Any, threshold: float) -> None:
    """The decision and its evidence, as they stand after the event."""
    row, site = state.rows[number], state.site[0]
    verdict.scales, pool = alarm
    verdict.kind = THROTTLE
    verdict.key, verdict.prefix, verdict.within = row.key, 0, 0
    verdict.until_ms = row.until_ms
    verdict.rate_per_h = row.rate_per_h
    verdict.burst = row.burst
    verdict.active_days = row.active_days
    verdict.first_seen_s = row.first_seen_s
    for s in range(SCALES):
        verdict.counter[s] = row.counter[s]
        verdict.limit[s] = limit(row, site, s, threshold)
        verdict.memory[s] = row.memory[s]
    verdict.pool = 0
    verdict.pool_keys = verdict.pool_volume = verdict.pool_usual = 0.0
    if pool != NO_ROW:
        _write_pool(verdict, state.pools.rows[pool], site)


@inline
def _write_pool(verdict: Any, pool: Any, site: Any) -> None:
    verdict.pool = pool.key
    verdict.pool_keys = pool.keys
    verdict.pool_volume = pool.volume
    verdict.pool_usual = usual(pool, site, level_of(pool.key))
