"""Pools of newcomers: addresses of one /24 or /16 (IPv6: /56 or /48) that send little each and much together (snowshoe).

    V       decayed demand of the pool's senders younger than a week, tau = 1 h
    K       decayed count of its new senders, tau = 1 h
    B       the usual volume: exp(mean + 1.2 sd) - 1 of the log of V's daily peak; the pool's own or the site's if greater
    alarm   K >= 24 and V > 4 B for a /24 or /56, V > 2 B for a /16 or /48; for a day after an alarm, V alone

Each of P partitions sees 1 in P addresses of a pool, so K must reach max(3, 24/P + 2) there; V and B shrink alike. The site's
mean and deviation come from Q50 and Q90 of a histogram of all pools' days, kept like the cohort's.

Snowshoe can't raise the bound that measures it. A day with an alarm is learned as B at most, any other as the alarm's line at
most. An alarmed pool's day, and that of a /24 inside an alarmed /16, doesn't train the site. No sender is new in a site's first
two days. An announced relay is one pool that never raises an alarm.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.cohort import move_unit, quantile
from engine.detector.constants import (
    CONTRIBUTION_CAP,
    DAY_MS,
    HALVE_EVERY,
    IDLE_DAYS,
    IDLE_DECAY_DAYS,
    LEARN_AFTER_MS,
    POOL_ALARM_MS,
    POOL_FACTOR,
    POOL_KEYS,
    POOL_KEYS_LEAST,
    POOL_KEYS_MORE,
    POOL_MS,
    POOL_SPREAD,
    QUANTILE,
    QUANTILE_LEAST,
    REFRESH_EVERY,
    RELAY,
    TYPICAL_WEIGHT_FIRST,
    TYPICAL_WEIGHT_MOST,
)
from engine.detector.layout import ALARMED, LEARNING
from topics.columns.jit import inline, kernel
from topics.columns.memory import float64, int64
from topics.keys import IPV4_TAG
from topics.networks import network_text

NORMAL_Q90 = 1.2815515655446004  # standard deviations from the median of a normal distribution to its ninth decile


class PoolEvent(NamedTuple):
    """An event of a sender younger than a week, as its pools count it."""

    t_ms: int
    offset: int
    demand: float
    new_keys: int  # 1 for the sender's first event, else 0
    slots: npt.NDArray[np.int64]  # prefetched row numbers of its pools, by level; may be wrong


def min_new_keys(partitions: int) -> float:
    """Return the new senders that make a pool suspicious in one of `partitions`."""
    return POOL_KEYS if partitions == 1 else max(POOL_KEYS_LEAST, POOL_KEYS / partitions + POOL_KEYS_MORE)


@inline
def pool_key(key: Any, level: int) -> Any:
    """Return the pool key of an address key at a level: its /24 or /56, its /16 or /48."""
    return (np.uint64(level + 1) << np.uint64(56)) | (key >> np.uint64(8 * (level + 1)))


@inline
def level_of(pool: Any) -> int:
    """Return the level of a pool key."""
    return int64(pool >> np.uint64(56)) - 1


def pool_text(pool: int) -> str:
    """Return the network of a pool key as CIDR."""
    dropped = pool >> 56  # bytes of the address key that the pool key leaves out
    key = (pool & (1 << 56) - 1) << 8 * dropped
    return network_text(key, (32 if key >= IPV4_TAG else 64) - 8 * dropped)


@inline
def read_pool_quantiles(site: Any, level: int) -> None:
    """Set the usual pool's log mean and deviation from the histogram."""
    q50 = quantile(site.pool_hist, level, 0.5)
    q90 = max(quantile(site.pool_hist, level, QUANTILE), QUANTILE_LEAST)
    site.pool_q90[level] = q90
    site.pool_mean[level] = math.log(1.0 + q50)
    site.pool_deviation[level] = (math.log(1.0 + q90) - math.log(1.0 + q50)) / NORMAL_Q90


@kernel
def open_site_pools(sites: Any) -> None:
    """Set the pool quantiles of empty sites from the prior."""
    for i in range(sites.shape[0]):
        for level in range(RELAY):
            read_pool_quantiles(sites[i], level)


@inline
def has_scale(site: Any, t_ms: int) -> bool:
    """Return True once the site's first two days are over: before that every sender looks new."""
    return bool(t_ms - site.first_ms >= LEARN_AFTER_MS)


@inline
def usual_volume(pool: Any, site: Any, level: int) -> float:
    """Return B: the usual volume of this pool within an hour, or that of the site's pools if greater."""
    own = float64(pool.mean) + POOL_SPREAD * math.sqrt(float64(pool.variance))
    others = site.pool_mean[level] + POOL_SPREAD * site.pool_deviation[level]
    return math.exp(max(own, others)) - 1.0


@inline
def open_pool(pool: Any, site: Any, level: int, t_ms: int, trains: bool) -> None:
    """Initialise a pool at its first event with the site's usual volume. `trains`: its day enters the site's histogram."""
    pool.last_ms, pool.alarm_ms = t_ms, t_ms - POOL_ALARM_MS
    pool.volume = pool.keys = pool.peak = pool.mean = pool.variance = 0.0
    pool.day = pool.bin = 0
    pool.weight = TYPICAL_WEIGHT_FIRST
    if level != RELAY:
        pool.mean = site.pool_mean[level]
        pool.variance = site.pool_deviation[level] ** 2
        _open_day(pool, site, level, t_ms // DAY_MS, trains)


@inline
def _open_day(pool: Any, site: Any, level: int, today: int, trains: bool) -> None:
    """Open a day; if it trains the site, it enters the histogram in bin 0."""
    pool.day, pool.peak, pool.bin = today, 0.0, 0
    pool.flags &= ~(ALARMED | LEARNING)
    if not trains:
        return
    pool.flags |= LEARNING
    site.pool_hist[level, 0] += 1.0
    site.pool_days[level] += 1
    if site.pool_days[level] % HALVE_EVERY == 0:
        for b in range(site.pool_hist.shape[1]):
            site.pool_hist[level, b] *= 0.5
    if site.pool_days[level] % REFRESH_EVERY == 0:
        read_pool_quantiles(site, level)


@inline
def _close_day(pool: Any, site: Any, level: int, idle_days: int) -> None:
    """Fold the open day's peak, capped, into the pool's own mean and variance."""
    usual = usual_volume(pool, site, level)
    most = usual if pool.flags & ALARMED else POOL_FACTOR[level] * usual
    weight = min(float64(pool.weight) + 1.0, TYPICAL_WEIGHT_MOST)
    mean, kept = float64(pool.mean), 1.0 - 1.0 / weight
    off = math.log(1.0 + min(float64(pool.peak), most)) - mean
    pool.mean = mean + off / weight
    pool.variance = kept * (float64(pool.variance) + off * off / weight)
    if idle_days > IDLE_DAYS:
        weight = max(TYPICAL_WEIGHT_FIRST, weight * math.exp(-(idle_days - IDLE_DAYS) / IDLE_DECAY_DAYS))
    pool.weight = weight


@inline
def count_in_pool(pool: Any, site: Any, level: int, event: Any, trains: bool) -> None:
    """Decay the pool's counters to a PoolEvent's time and add it. `trains`: it may train the site."""
    today = event.t_ms // DAY_MS
    if level != RELAY and today > pool.day:
        _close_day(pool, site, level, today - int64(pool.day))
        _open_day(pool, site, level, today, trains)
    elapsed_ms, volume, keys = event.t_ms - pool.last_ms, float64(pool.volume), float64(pool.keys)
    if elapsed_ms > 0:
        factor = math.exp(-elapsed_ms / POOL_MS)
        volume *= factor
        keys *= factor
        pool.last_ms = event.t_ms
    pool.volume = volume + event.demand
    pool.keys = keys + (event.new_keys if has_scale(site, event.t_ms) else 0)
    if pool.volume > pool.peak:
        pool.peak = pool.volume
    if trains and pool.flags & LEARNING and not pool.flags & ALARMED:
        peak = min(float64(pool.peak), CONTRIBUTION_CAP * site.pool_q90[level])
        pool.bin = move_unit(site.pool_hist, level, int64(pool.bin), peak)


@inline
def update_alarm(pool: Any, site: Any, level: int, new_keys: float, t_ms: int) -> bool:
    """Return True if the pool is in alarm, and record the alarm in the pool.

    It needs `new_keys` new senders, now or at an alarm within a day, and more than the usual volume; 0 turns the rule off.
    """
    if not new_keys or (pool.keys < new_keys and t_ms - pool.alarm_ms >= POOL_ALARM_MS):
        return False
    if pool.volume <= POOL_FACTOR[level] * usual_volume(pool, site, level):
        return False
    pool.flags |= ALARMED
    pool.alarm_ms = max(pool.alarm_ms, t_ms)
    return True
