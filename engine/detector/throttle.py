"""Throttles: whether an event's sender is in alarm, and rate and term of the decision.

*Alarm*: any counter above its limit, or a pool of newcomers in alarm around the sender.
*Rate*: the sender's typical busy hour, all day long, so normal mail flows and only the excess waits; for a newcomer a quarter
of its limit over the scale's time; in a pool one message in four hours. An established, big sender's first excess continues
at its hourly limit, so that an honest series is through within hours. That ends when the excess grows beyond two limits or
lasts beyond half of its term. Once five times its best day was deferred in a day, it continues at its hourly limit again.
*Term*: the time constant of the longest exceeded scale, at least ten minutes; in a pool one hour.
*Repetition*: while more than half of a term is left, no new decision is made unless the rate falls by a fifth. A decision is
extended, never shortened, and expires by itself.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from engine.detector.breaker import count_throttle
from engine.detector.budget import decides
from engine.detector.constants import (
    BIG,
    CAP,
    DAY,
    ESTABLISHED_DAYS,
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
from engine.detector.layout import PASSED, THROTTLED
from engine.detector.limits import limit
from engine.detector.pools import level_of, usual_volume
from engine.detector.relays import NO_RELAYS, Relays
from engine.detector.token_bucket import burst
from engine.detector.verdict import THROTTLE
from topics.columns.jit import inline
from topics.columns.memory import float64


class Policy(NamedTuple):
    """The operator's choices for one partition."""

    threshold: float  # T before the site's scale
    window_ms: int  # greatest distance of an event's timestamp from its record's
    partition: int  # number of this partition,
    partitions: int  # and how many there are: which keys belong here
    pool_keys: tuple[float, float] = (POOL_KEYS, POOL_KEYS)  # new senders that make a /24 and a /16 suspicious; 0: off
    pool_shadow: bool = False  # the /16 rule only counts
    relays: Relays = NO_RELAYS
    learning_ms: int = 0  # longest time that a new site learns before it decides
    decides: bool = True  # False: the site only watches
    breaker_share: float = 0.0  # known senders whose throttles the circuit breaker tolerates; 0: no breaker


class Alarm(NamedTuple):
    """The reasons to throttle a sender."""

    scales: int  # bit s is set if the counter of scale s is above its limit
    pool: int  # row number of the pool in alarm, NO_ROW without one


@inline
def exceeded_scales(row: Any, site: Any, threshold: float) -> int:
    """Return the scales whose counter is above its limit, as bits."""
    exceeded = 0
    for s in range(SCALES):
        if row.counter[s] > limit(row, site, s, threshold):
            exceeded |= 1 << s
    return exceeded


@inline
def _newcomer_rate_per_h(row: Any, site: Any, exceeded: int, threshold: float) -> float:
    rate = math.inf
    for s in range(SCALES):
        if exceeded & (1 << s):
            rate = min(rate, NEWCOMER_RATE_SHARE * limit(row, site, s, threshold) / SCALE_HOURS[s])
    return rate


@inline
def _may_use_limit(row: Any, site: Any, threshold: float, lasts: bool) -> bool:
    """Return True if a known sender's excess may continue at its hourly limit.

    The sender must be established and big, and its excess new and mild, or five times its best day deferred already.
    """
    if row.weight < ESTABLISHED_DAYS * WEIGHT_UNITS or row.memory[DAY] < BIG * site.cohort_limit[DAY]:
        return False
    if row.deferred >= CAP * row.memory[DAY]:
        return True
    is_mild = not lasts
    for s in range(SCALES):
        if row.counter[s] > MILD * limit(row, site, s, threshold):
            is_mild = False
    return is_mild


@inline
def rate_per_h(row: Any, site: Any, exceeded: int, threshold: float, lasts: bool) -> float:
    """Return the messages an hour that a throttled sender may send. `lasts`: the excess outlasts half of its term."""
    if row.active_days == 0:
        return _newcomer_rate_per_h(row, site, exceeded, threshold)
    rate = math.exp(float64(row.typical)) - 1.0 + RATE_FLOOR_PER_H
    if row.active_days > PROBATION_DAYS and _may_use_limit(row, site, threshold, lasts):
        rate = max(rate, limit(row, site, HOUR, threshold))
    return rate


@inline
def _term_ms(alarm: Any) -> int:
    term_ms = FAST_TERM_MS if alarm.pool == NO_ROW else POOL_TERM_MS
    for s in range(SLOW):
        if alarm.scales & (1 << s):
            term_ms = max(term_ms, SCALE_MS[s])
    return term_ms


@inline
def throttle(state: Any, number: int, t_ms: int, alarm: Any, policy: Any) -> bool:
    """Start or extend a row's throttle at `t_ms`. Return True if the decision must be published.

    False if the active decision suffices or the site doesn't publish: it learns, only watches, or its breaker is open.
    """
    row, site = state.rows[number], state.site[0]
    term_ms, published = _term_ms(alarm), decides(site, policy) and site.breaker_rearm_ms == 0
    if not published and row.flags & THROTTLED:
        return False
    live = row.until_ms > t_ms and (row.flags & (THROTTLED | PASSED) == THROTTLED or not published)
    lasts = live and 2 * (row.until_ms - t_ms) < term_ms
    threshold = policy.threshold * site.threshold_scale
    rate = rate_per_h(row, site, alarm.scales, threshold, lasts) if alarm.scales else math.inf
    if alarm.pool != NO_ROW:
        rate = min(rate, POOL_RATE_PER_H)
    is_capped = (
        row.active_days > PROBATION_DAYS
        and row.deferred >= CAP * row.memory[DAY]
        and rate > RATE_RISE * float64(row.rate_per_h)
    )
    if live and not lasts and not is_capped and rate > RATE_FALL * float64(row.rate_per_h):
        return False
    is_new = published and not live and not row.flags & THROTTLED
    if is_new and policy.breaker_share > 0.0 and row.active_days > PROBATION_DAYS:
        published = not count_throttle(site, row.key, policy.breaker_share)
    row.tokens = min(burst(rate), float64(row.tokens)) if live else burst(rate)
    row.until_ms = max(row.until_ms, t_ms + term_ms)
    row.rate_per_h = rate
    row.flags &= ~PASSED
    if not published:
        site.suppressed += 1
        return False
    if not row.flags & THROTTLED:
        row.flags |= THROTTLED
        push(state, number, row.until_ms)
    return True


@inline
def write_throttle(verdict: Any, state: Any, number: int, alarm: Any, threshold: float) -> None:
    """Write a row's throttle with its evidence after the event to a verdict."""
    row, site = state.rows[number], state.site[0]
    verdict.kind = THROTTLE
    verdict.key, verdict.prefix, verdict.within = row.key, 0, 0
    verdict.until_ms = row.until_ms
    verdict.rate_per_h = row.rate_per_h
    verdict.burst = burst(float64(row.rate_per_h))
    verdict.threshold = threshold
    verdict.scales = alarm.scales
    verdict.active_days = row.active_days
    verdict.first_seen_s = row.first_seen_s
    for s in range(SCALES):
        verdict.counter[s] = row.counter[s]
        verdict.limit[s] = limit(row, site, s, threshold)
        verdict.memory[s] = row.memory[s]
    verdict.pool = 0
    verdict.pool_keys = verdict.pool_volume = verdict.pool_usual = 0.0
    if alarm.pool != NO_ROW:
        _write_pool(verdict, state.pools.rows[alarm.pool], site)


@inline
def _write_pool(verdict: Any, pool: Any, site: Any) -> None:
    verdict.pool = pool.key
    verdict.pool_keys = pool.keys
    verdict.pool_volume = pool.volume
    verdict.pool_usual = usual_volume(pool, site, level_of(pool.key))
