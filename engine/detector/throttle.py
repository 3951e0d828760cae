"""Whether an event's sender is throttled: the alarm, and the terms of the decision.

Alarm: any counter above its limit, or a crowd of newcomers in the sender's pool. The rate is the sender's typical busy
hour, all day long (a newcomer's: a quarter of its limit over the scale's time), so normal mail flows and only the excess
waits; one of a crowd has a message in four hours. An established, big sender's first excess goes on at its hourly limit,
so an honest series is through within hours, and hardens as it grows beyond two limits or lasts beyond half of its term; once
five times its best day was held back in a day, it goes on so again. The term is the time constant of the longest exceeded
scale, ten minutes at least, a crowd's an hour. While a decision has more than half of a term to go, nothing is said unless
the rate falls by a fifth; a decision is extended, never shortened; it lapses by itself.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from engine.detector.breaker import trips
from engine.detector.budget import decides
from engine.detector.constants import (
    BIG,
    CAP,
    DAY,
    ESTABLISHED,
    FAST_TERM_MS,
    HOUR,
    MILD,
    NEWCOMER_RATE_SHARE,
    POOL_KEYS,
    POOL_RATE_PER_H,
    POOL_TERM_MS,
    PROBATION_DAYS,
    RATE_FALL,
    RATE_FLOOR_PER_H,
    RATE_RISE,
    SCALE_HOURS,
    SCALE_MS,
    SCALES,
    SLOW,
    WEIGHT_UNITS,
)
from engine.detector.expiry import push
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import PASSED, WAITING
from engine.detector.limits import limit
from engine.detector.pools import level_of, usual
from engine.detector.relays import NO_RELAYS, Relays
from engine.detector.token_bucket import burst
from engine.detector.verdict import THROTTLE
from topics.columns.jit import inline
from topics.columns.memory import float64


class Policy(NamedTuple):
    """What the operator chose. ``threshold``: the knob's T; ``window_ms``: how far an event's stamp may lie from its
    record's; ``partition``/``partitions``: which keys belong here; ``pool_keys``: new keys that make a /24 and a /16
    suspicious in one partition, 0 for a rule that is off; ``shadow``: the /16 rule is only counted; ``relays``: announced
    ones; ``learning_ms``: how long a new site may watch before it decides; ``decides``: False if it only ever watches;
    ``guard``: the share of known senders whose throttles the guard lets be, 0 without a guard."""

    threshold: float
    window_ms: int
    partition: int
    partitions: int
    pool_keys: tuple[float, float] = (POOL_KEYS, POOL_KEYS)
    shadow: bool = False
    relays: Relays = NO_RELAYS
    learning_ms: int = 0
    decides: bool = True
    guard: float = 0.0


@inline
def _newcomers_rate(row: Any, site: Any, exceeded: int, threshold: float) -> float:
    rate = math.inf
    for s in range(SCALES):
        if exceeded & (1 << s):
            rate = min(rate, NEWCOMER_RATE_SHARE * limit(row, site, s, threshold) / SCALE_HOURS[s])
    return rate


@inline
def _spared(row: Any, site: Any, threshold: float, lasts: bool) -> bool:
    """Whether a known sender's excess may go on at its hourly limit: it is established and big, and this is new and mild,
    or five times its best day was held back already."""
    if row.weight < ESTABLISHED * WEIGHT_UNITS or row.memory[DAY] < BIG * site.limit[DAY]:
        return False
    if row.held >= CAP * row.memory[DAY]:
        return True
    mild = not lasts
    for s in range(SCALES):
        if row.counter[s] > MILD * limit(row, site, s, threshold):
            mild = False
    return mild


@inline
def rate_per_h(row: Any, site: Any, exceeded: int, threshold: float, lasts: bool) -> float:
    """Messages an hour that a throttled key may go on sending."""
    if row.active_days == 0:
        return _newcomers_rate(row, site, exceeded, threshold)
    rate = math.exp(float64(row.typical)) - 1.0 + RATE_FLOOR_PER_H
    if row.active_days > PROBATION_DAYS and _spared(row, site, threshold, lasts):
        rate = max(rate, limit(row, site, HOUR, threshold))
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
def _term_ms(exceeded: int, pool: int) -> int:
    term_ms = FAST_TERM_MS if pool == NO_ROW else POOL_TERM_MS
    for s in range(SLOW):
        if exceeded & (1 << s):
            term_ms = max(term_ms, SCALE_MS[s])
    return term_ms


@inline
def throttle(state: Any, number: int, t_ms: int, alarm: Any, policy: Any) -> bool:
    """Set or extend the row's throttle at ``t_ms``; False when nothing is to be said: what is in force says enough, or the
    site only watches. ``alarm``: (bits of the exceeded scales, number of the pool in alarm or NO_ROW)."""
    row, site = state.rows[number], state.site[0]
    exceeded, pool = alarm
    term_ms, published = _term_ms(exceeded, pool), decides(site, policy) and site.rearm_ms == 0
    if not published and row.flags & WAITING:
        return False
    live = row.until_ms > t_ms and (row.flags & (WAITING | PASSED) == WAITING or not published)
    lasts = live and 2 * (row.until_ms - t_ms) < term_ms
    rate = rate_per_h(row, site, exceeded, policy.threshold * site.lean, lasts) if exceeded else math.inf
    if pool != NO_ROW:
        rate = min(rate, POOL_RATE_PER_H)
    capped = (
        row.active_days > PROBATION_DAYS
        and row.held >= CAP * row.memory[DAY]
        and rate > RATE_RISE * float64(row.rate_per_h)
    )
    if live and not lasts and not capped and rate > RATE_FALL * float64(row.rate_per_h):
        return False
    anew = published and not live and not row.flags & WAITING
    if anew and policy.guard > 0.0 and row.active_days > PROBATION_DAYS:
        published = not trips(site, row.key, policy.guard)
    row.tokens = min(burst(rate), float64(row.tokens)) if live else burst(rate)
    row.until_ms = max(row.until_ms, t_ms + term_ms)
    row.rate_per_h = rate
    row.flags &= ~PASSED
    if not published:
        site.shadows += 1
        return False
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
    verdict.burst = burst(float64(row.rate_per_h))
    verdict.threshold = threshold
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
