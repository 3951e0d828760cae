"""Pools of newcomers: many addresses of one /24 or /16 (IPv6: /56 or /48) that are small each and large together.

    V  leaky demand of the pool's keys younger than a week        K  leaky count of its new keys        tau = 1 h for both
    B  what is usual: exp(mean + 1.2 sd) - 1 of the log of V's daily peak; the greater of the pool's own and the site's
    alarm   K >= 24 and V > 4 B for a /24 or /56, V > 2 B for a /16 or /48; for a day after it, V alone

K tells a crowd as it comes, V as long as it stays. One of P partitions sees one in P addresses of a pool and asks its K for
max(3, 24/P + 2); V and B shrink alike.
The site's mean and deviation come from the median and the ninth decile of a histogram of all pools' daily peaks, kept as
the cohort's is. Guards, so that snowshoe doesn't raise the bound it is measured by: a day with an alarm is learned as no
more than what was usual, any other as no more than would have been an alarm; an alarm's day doesn't teach the site, nor
that of a /24 whose /16 has one; nobody is new in a site's first two days. An announced relay is one pool, never judged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.detector.cohort import above_bin, bin_of, quantile
from engine.detector.constants import (
    CONTRIBUTION_CAP,
    DAY_MS,
    HALVE_EVERY,
    IDLE_DAYS,
    IDLE_FADE_DAYS,
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
from topics.keys import IPV4_TAG, network_text

NORMAL_Q90 = 1.2815515655446004  # standard deviations from the median of a normal distribution to its ninth decile


def least_keys(partitions: int) -> float:
    """New keys that make a pool suspicious in one of so many partitions."""
    return POOL_KEYS if partitions == 1 else max(POOL_KEYS_LEAST, POOL_KEYS / partitions + POOL_KEYS_MORE)


@inline
def pool_key(key: Any, level: int) -> Any:
    """The pool of an address key at a level: its /24 or /56, its /16 or /48."""
    return (np.uint64(level + 1) << np.uint64(56)) | (key >> np.uint64(8 * (level + 1)))


@inline
def level_of(pool: Any) -> int:
    """The level of a pool key."""
    return int64(pool >> np.uint64(56)) - 1


def pool_text(pool: int) -> str:
    """The network of a pool key, as CIDR."""
    octets = pool >> 56
    key = (pool & (1 << 56) - 1) << 8 * octets
    return network_text(key, (32 if key >= IPV4_TAG else 64) - 8 * octets)


@inline
def read_pool_quantiles(site: Any, level: int) -> None:
    """Set the usual pool's log mean and deviation from the histogram."""
    q50 = quantile(site.pool_hist, level, 0.5)
    q90 = max(quantile(site.pool_hist, level, QUANTILE), QUANTILE_LEAST)
    site.pool_q90[level] = q90
    site.pool_mean[level] = math.log(1.0 + q50)
    site.pool_deviation[level] = (math.log(1.0 + q90) - math.log(1.0 + q50)) / NORMAL_Q90


@kernel
def open_pools(sites: Any) -> None:
    """Read the prior's quantiles into fresh sites."""
    for i in range(sites.shape[0]):
        for level in range(RELAY):
            read_pool_quantiles(sites[i], level)


@inline
def usual(pool: Any, site: Any, level: int) -> float:
    """B: the volume within an hour that is usual for the pool, or for pools of this site if that is more."""
    own = float64(pool.mean) + POOL_SPREAD * math.sqrt(float64(pool.variance))
    others = site.pool_mean[level] + POOL_SPREAD * site.pool_deviation[level]
    return math.exp(max(own, others)) - 1.0


@inline
def _open_day(pool: Any, site: Any, level: int, today: int, teaches: bool) -> None:
    """Begin a day: it enters the site's histogram in bin 0 if it may teach the site."""
    pool.day, pool.peak, pool.bin = today, 0.0, 0
    pool.flags &= ~(ALARMED | LEARNING)
    if not teaches:
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
def open_pool(pool: Any, site: Any, level: int, t_ms: int, teaches: bool) -> None:
    """A pool's first event: it is taken to be as the site's others are."""
    pool.last_ms, pool.alarm_ms = t_ms, t_ms - POOL_ALARM_MS
    pool.volume = pool.keys = pool.peak = pool.mean = pool.variance = 0.0
    pool.day = pool.bin = 0
    pool.weight = TYPICAL_WEIGHT_FIRST
    if level != RELAY:
        pool.mean = site.pool_mean[level]
        pool.variance = site.pool_deviation[level] ** 2
        _open_day(pool, site, level, t_ms // DAY_MS, teaches)


@inline
def _close_day(pool: Any, site: Any, level: int, idle_days: int) -> None:
    """Fold the open day's peak into the pool's own history."""
    bound = usual(pool, site, level)
    most = bound if pool.flags & ALARMED else POOL_FACTOR[level] * bound
    weight = min(float64(pool.weight) + 1.0, TYPICAL_WEIGHT_MOST)
    mean, kept = float64(pool.mean), 1.0 - 1.0 / weight
    off = math.log(1.0 + min(float64(pool.peak), most)) - mean
    pool.mean = mean + off / weight
    pool.variance = kept * (float64(pool.variance) + off * off / weight)
    if idle_days > IDLE_DAYS:
        weight = max(TYPICAL_WEIGHT_FIRST, weight * math.exp(-(idle_days - IDLE_DAYS) / IDLE_FADE_DAYS))
    pool.weight = weight


@inline
def _follow(pool: Any, site: Any, level: int) -> None:
    """Move the day's unit to the bin that its peak has reached, as far as the cap."""
    peak, old = min(float64(pool.peak), CONTRIBUTION_CAP * site.pool_q90[level]), int64(pool.bin)
    if not above_bin(peak, old):
        return
    b = bin_of(peak)
    if b > old:
        unit = min(1.0, site.pool_hist[level, old])
        site.pool_hist[level, old] -= unit
        site.pool_hist[level, b] += unit
        pool.bin = b


@inline
def count_in_pool(pool: Any, site: Any, level: int, event: Any) -> None:
    """Fade the pool's counters and add an event: (time, demand, new keys, whether it may teach the site)."""
    t_ms, amount, new_keys, teaches = event
    today = t_ms // DAY_MS
    if level != RELAY and today > pool.day:
        _close_day(pool, site, level, today - int64(pool.day))
        _open_day(pool, site, level, today, teaches)
    elapsed_ms, volume, keys = t_ms - pool.last_ms, float64(pool.volume), float64(pool.keys)
    if elapsed_ms > 0:
        fade = math.exp(-elapsed_ms / POOL_MS)
        volume *= fade
        keys *= fade
        pool.last_ms = t_ms
    pool.volume = volume + amount
    pool.keys = keys + new_keys
    if pool.volume > pool.peak:
        pool.peak = pool.volume
    if teaches and pool.flags & LEARNING and not pool.flags & ALARMED:
        _follow(pool, site, level)


@inline
def alarmed(pool: Any, site: Any, level: int, least_keys: float, t_ms: int) -> bool:
    """Whether the pool has so many new keys, or had within a day, and they send more than is usual; noted in the pool.
    Never with ``least_keys`` 0."""
    if not least_keys or (pool.keys < least_keys and t_ms - pool.alarm_ms >= POOL_ALARM_MS):
        return False
    if pool.volume <= POOL_FACTOR[level] * usual(pool, site, level):
        return False
    pool.flags |= ALARMED
    pool.alarm_ms = max(pool.alarm_ms, t_ms)
    return True
