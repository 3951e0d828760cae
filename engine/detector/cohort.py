"""The site's newcomers: a histogram per scale of the peak that new keys reach in their first 24 hours, and its quantiles.

Bins are a sixth of an octave of 1 + peak; a quantile is read as its bin's upper edge, and Q90 as one message at least. A
unit of weight moves between bins as its newcomer grows, so keys that never return are counted right and no timer is needed.

In the first two days everybody looks new; what comes then gives the site's scale only: a prior made for a median newcomer
of one message is moved to their median day (without it, the same trace at 20 times the volume lost 2.5 times the share).

Guards, so that attackers don't raise the limit that they are measured by: nothing is learned from more than four new keys a
day of one /16 (IPv6: /48; counted in 1,024 hashed, leaky slots: on a site so busy that they fill, learning pauses and the
limits stay); a contribution is capped at 1.5 times the quantile, and stops once more was rejected than accepted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.detector.constants import (
    BINS,
    BINS_PER_OCTAVE,
    CONTRIBUTION_CAP,
    DAY,
    DAY_MS,
    HALVE_EVERY,
    NEIGHBOUR_SLOTS,
    NEIGHBOURS,
    NEWCOMER_SHARE,
    PRIOR_BINS,
    PRIOR_MASS,
    PRIOR_RATIO,
    QUANTILE,
    QUANTILE_LEAST,
    REFRESH_EVERY,
    SLOW,
    STRETCH_FROM,
    STRETCH_LEAST,
    STRETCH_UNIT,
)
from engine.detector.hash_table import hash_key
from engine.detector.layout import COUNTED
from topics.columns.jit import inline, kernel
from topics.columns.memory import float64, int64

NEARLY_NEXT = np.exp2(np.arange(1, BINS + 1) / BINS_PER_OCTAVE) * (1 - 1e-9) - 1.0  # just below each bin's upper edge


@inline
def bin_of(peak: float) -> int:
    """The bin of a peak: floor(6 log2(1 + peak)), at most the last."""
    return min(int64(math.floor(BINS_PER_OCTAVE * math.log2(1.0 + peak))), BINS - 1)


@inline
def above_bin(peak: float, b: int) -> bool:
    """False when a peak lies surely not above bin ``b``: no logarithm for the many that grow within theirs."""
    return bool(peak >= NEARLY_NEXT[b])


@inline
def quantile(hist: Any, scale: int, share: float) -> float:
    """Upper edge of the first bin at which the cumulated weight reaches ``share`` of the total."""
    total = 0.0
    for b in range(BINS):
        total += hist[scale, b]
    reached, b = hist[scale, 0], 0
    while reached < share * total and b < BINS - 1:
        b += 1
        reached += hist[scale, b]
    return math.exp2((b + 1) / BINS_PER_OCTAVE) - 1.0


@inline
def read_quantiles(site: Any) -> None:
    """Set the newcomers' limits from the histograms."""
    for s in range(SLOW):
        site.q90[s] = max(quantile(site.hist, s, QUANTILE), QUANTILE_LEAST)
        site.limit[s] = NEWCOMER_SHARE[s] * site.q90[s]
    site.q50 = quantile(site.hist, 0, 0.5)


@inline
def prior(b: int) -> float:
    """Weight of a bin before anybody came."""
    return PRIOR_MASS * PRIOR_RATIO**b if 1 <= b <= PRIOR_BINS else 0.0


@kernel
def open_cohort(sites: Any) -> None:
    """Read the prior's quantiles into a fresh site."""
    read_quantiles(sites[0])


@inline
def _median_bin(weights: Any) -> Any:
    """(bin of the median, total weight) of a histogram row, the prior's weight taken out."""
    total, reached = 0.0, 0.0
    for b in range(BINS):
        total += weights[b] - prior(b)
    for b in range(BINS):
        reached += weights[b] - prior(b)
        if reached >= 0.5 * total:
            return b, total
    return BINS - 1, total


@inline
def stretch(site: Any) -> None:
    """Begin anew, with the prior moved to where this site's first senders are: a site of busy senders has busy newcomers."""
    median, total = _median_bin(site.hist[DAY])
    shift = 0
    if total >= STRETCH_LEAST and median > STRETCH_FROM:
        shift = min(median - STRETCH_UNIT, BINS - 1 - PRIOR_BINS)
    for s in range(SLOW):
        for b in range(BINS):
            site.hist[s, b] = prior(b - shift)
    site.since_halving = 0
    read_quantiles(site)


@inline
def among_few(site: Any, key: Any, t_ms: int) -> bool:
    """Count a new key on its /16 or /48; whether it is among the first few there within a day."""
    slot = int64(hash_key(key >> np.uint64(16), np.uint64(0)) & np.uint64(NEIGHBOUR_SLOTS - 1))
    count, elapsed_ms = float64(site.neighbours[slot]), t_ms - site.neighbours_ms[slot]
    if elapsed_ms > 0:
        count *= math.exp(-elapsed_ms / DAY_MS)
        site.neighbours_ms[slot] = t_ms
    site.neighbours[slot] = count + 1.0
    return bool(site.neighbours[slot] <= NEIGHBOURS)


@inline
def enter(site: Any, row: Any, t_ms: int) -> None:
    """A new key at ``t_ms``: it enters bin 0 of each scale if its neighbours are few."""
    site.new_keys += 1
    few = among_few(site, row.key, t_ms)
    if few:
        row.flags |= COUNTED
        for s in range(SLOW):
            site.hist[s, 0] += 1.0
        site.counted += 1
        site.since_halving += 1
        if site.since_halving == HALVE_EVERY:
            site.since_halving = 0
            for s in range(SLOW):
                for b in range(BINS):
                    site.hist[s, b] *= 0.5
    if site.new_keys % REFRESH_EVERY == 0:
        read_quantiles(site)


@inline
def grow(site: Any, row: Any) -> None:
    """A counted newcomer in its first 24 hours: its unit follows its peak, as far as the cap."""
    for s in range(SLOW):
        peak, old = min(float64(row.peak[s]), CONTRIBUTION_CAP * site.q90[s]), int64(row.bin[s])
        if not above_bin(peak, old):
            continue
        b = bin_of(peak)
        if b > old:
            unit = min(1.0, site.hist[s, old])
            site.hist[s, old] -= unit
            site.hist[s, b] += unit
            row.bin[s] = b
