"""The site's newcomers: a histogram per scale of the peak that new keys reach in their first 24 hours, and its quantiles.

Bins are a sixth of an octave of 1 + peak; a quantile is read as its bin's lower edge (the bin of one message then reads
as 1, and the prior's limits as 40, 81 and 81). A unit of weight moves between bins
as its newcomer grows, so keys that never return are counted right and no timer is needed. Guards, so that attackers don't
raise the limit that they are measured by: nothing is learned in the site's first two days, a contribution is capped at
1.5 times the quantile, and stops once more was rejected than accepted. Q90 is never below one message: where most newcomers
are turned away, and so stay in bin 0, it would come to allow none, and with the cap at 1.5 x 0 never recover.
"""

from __future__ import annotations

import math
from typing import Any

from engine.models.constants import (
    BINS,
    BINS_PER_OCTAVE,
    CONTRIBUTION_CAP,
    HALVE_EVERY,
    NEWCOMER_SHARE,
    QUANTILE,
    QUANTILE_LEAST,
    REFRESH_EVERY,
    SCALES,
)
from engine.models.layout import COUNTED
from topics.columns.jit import inline, kernel
from topics.columns.memory import float64, int64


@inline
def bin_of(peak: float) -> int:
    """The bin of a peak: floor(6 log2(1 + peak)), at most the last."""
    return min(int64(math.floor(BINS_PER_OCTAVE * math.log2(1.0 + peak))), BINS - 1)


@inline
def quantile(hist: Any, scale: int, share: float) -> float:
    """Lower edge of the first bin at which the cumulated weight reaches ``share`` of the total."""
    total = 0.0
    for b in range(BINS):
        total += hist[scale, b]
    reached, b = hist[scale, 0], 0
    while reached < share * total and b < BINS - 1:
        b += 1
        reached += hist[scale, b]
    return math.exp2(b / BINS_PER_OCTAVE) - 1.0


@inline
def read_quantiles(site: Any) -> None:
    """Set the newcomers' limits from the histograms."""
    for s in range(SCALES):
        site.q90[s] = max(quantile(site.hist, s, QUANTILE), QUANTILE_LEAST)
        site.limit[s] = NEWCOMER_SHARE[s] * site.q90[s]
    site.q50 = quantile(site.hist, 0, 0.5)


@kernel
def open_cohort(sites: Any) -> None:
    """Read the prior's quantiles into a fresh site."""
    read_quantiles(sites[0])


@inline
def enter(site: Any, row: Any, learning: bool) -> None:
    """A new key: it enters bin 0 of each scale if the site is old enough to tell who is new."""
    site.new_keys += 1
    if learning:
        row.flags |= COUNTED
        for s in range(SCALES):
            site.hist[s, 0] += 1.0
        site.since_halving += 1
        if site.since_halving == HALVE_EVERY:
            site.since_halving = 0
            for s in range(SCALES):
                for b in range(BINS):
                    site.hist[s, b] *= 0.5
    if site.new_keys % REFRESH_EVERY == 0:
        read_quantiles(site)


@inline
def grow(site: Any, row: Any) -> None:
    """A counted newcomer in its first 24 hours: its unit follows its peak, as far as the cap."""
    for s in range(SCALES):
        b = bin_of(min(float64(row.peak[s]), CONTRIBUTION_CAP * site.q90[s]))
        old = int64(row.bin[s])
        if b > old:
            unit = min(1.0, site.hist[s, old])
            site.hist[s, old] -= unit
            site.hist[s, b] += unit
            row.bin[s] = b
