"""The cohort: histograms of the peaks that the site's newcomers reach in their first 24 hours, and their quantiles.

Bins are a sixth of an octave of 1 + peak. A quantile is its bin's upper edge; Q90 is at least one message. A newcomer's unit
of weight moves up as it grows, so a sender that never returns is counted right, and no timer is needed. In the first two
days every sender looks new; those days only give the site's scale: the prior, made for a median newcomer of one message,
moves to their median (without this, the same trace at 20 times the volume lost 2.5 times the share).

Three rules keep attackers from raising the limit that measures them:
- at most four new senders a day of one /16 (IPv6: /48) train the cohort. They are counted in 1,024 hashed slots; if a busy
  site fills these, learning pauses and the limits stay;
- a contribution is capped at 1.5 times the Q90;
- a newcomer stops contributing once more of its mail was rejected than accepted.
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
    RESCALE_FROM_BIN,
    RESCALE_LEAST_SENDERS,
    RESCALE_UNIT_BIN,
    SLOW,
)
from engine.detector.hash_table import hash_key
from engine.detector.layout import COUNTED
from topics.columns.jit import inline, kernel
from topics.columns.memory import float64, int64

_BELOW_EDGE = np.exp2(np.arange(1, BINS + 1) / BINS_PER_OCTAVE) * (1 - 1e-9) - 1.0  # just below each bin's upper edge


@inline
def bin_of(peak: float) -> int:
    """Return the bin of a peak: floor(6 log2(1 + peak)), at most the last one."""
    return min(int64(math.floor(BINS_PER_OCTAVE * math.log2(1.0 + peak))), BINS - 1)


@inline
def move_unit(hist: Any, series: int, old: int, peak: float) -> int:
    """Move one unit of weight of `hist[series]` from bin `old` up to the bin of `peak`. Return its bin.

    A peak that certainly doesn't exceed the old bin costs no logarithm; that is the common case.
    """
    if peak < _BELOW_EDGE[old]:
        return old
    new = bin_of(peak)
    if new <= old:
        return old
    unit = min(1.0, hist[series, old])
    hist[series, old] -= unit
    hist[series, new] += unit
    return new


@inline
def quantile(hist: Any, series: int, share: float) -> float:
    """Return the upper edge of the first bin of `hist[series]` at which the summed weight reaches `share` of the total."""
    total = 0.0
    for b in range(BINS):
        total += hist[series, b]
    reached, b = hist[series, 0], 0
    while reached < share * total and b < BINS - 1:
        b += 1
        reached += hist[series, b]
    return math.exp2((b + 1) / BINS_PER_OCTAVE) - 1.0


@inline
def read_quantiles(site: Any) -> None:
    """Set the cohort's quantiles and limits from its histograms."""
    for s in range(SLOW):
        site.cohort_q90[s] = max(quantile(site.cohort_hist, s, QUANTILE), QUANTILE_LEAST)
        site.cohort_limit[s] = NEWCOMER_SHARE[s] * site.cohort_q90[s]
    site.cohort_q50 = quantile(site.cohort_hist, 0, 0.5)


@kernel
def open_cohort(sites: Any) -> None:
    """Set the quantiles of an empty site from the prior."""
    read_quantiles(sites[0])


@inline
def _prior(b: int) -> float:
    """Return the weight of bin `b` before the first newcomer."""
    return PRIOR_MASS * PRIOR_RATIO**b if 1 <= b <= PRIOR_BINS else 0.0


@inline
def _median_bin(weights: Any) -> Any:
    """Return (bin of the median, total weight) of a histogram without the prior's weight."""
    total, reached = 0.0, 0.0
    for b in range(BINS):
        total += weights[b] - _prior(b)
    for b in range(BINS):
        reached += weights[b] - _prior(b)
        if reached >= 0.5 * total:
            return b, total
    return BINS - 1, total


@inline
def rescale_prior(site: Any) -> None:
    """Restart the histograms with the prior moved to the median of the site's first senders.

    A site of busy senders has busy newcomers.
    """
    median, total = _median_bin(site.cohort_hist[DAY])
    shift = 0
    if total >= RESCALE_LEAST_SENDERS and median > RESCALE_FROM_BIN:
        shift = min(median - RESCALE_UNIT_BIN, BINS - 1 - PRIOR_BINS)
    for s in range(SLOW):
        for b in range(BINS):
            site.cohort_hist[s, b] = _prior(b - shift)
    site.cohort_since_halving = 0
    read_quantiles(site)


@inline
def few_neighbours(site: Any, key: Any, t_ms: int) -> bool:
    """Count a new sender on its /16 or /48. Return True if it is among the first few there within a day."""
    slot = int64(hash_key(key >> np.uint64(16), np.uint64(0)) & np.uint64(NEIGHBOUR_SLOTS - 1))
    count, elapsed_ms = float64(site.cohort_neighbours[slot]), t_ms - site.cohort_neighbours_ms[slot]
    if elapsed_ms > 0:
        count *= math.exp(-elapsed_ms / DAY_MS)
        site.cohort_neighbours_ms[slot] = t_ms
    site.cohort_neighbours[slot] = count + 1.0
    return bool(site.cohort_neighbours[slot] <= NEIGHBOURS)


@inline
def add_newcomer(site: Any, row: Any, t_ms: int) -> None:
    """Count a new sender in bin 0 of each scale if it has few new neighbours."""
    site.cohort_new_keys += 1
    if few_neighbours(site, row.key, t_ms):
        row.flags |= COUNTED
        for s in range(SLOW):
            site.cohort_hist[s, 0] += 1.0
        site.cohort_counted += 1
        site.cohort_since_halving += 1
        if site.cohort_since_halving == HALVE_EVERY:
            site.cohort_since_halving = 0
            for s in range(SLOW):
                for b in range(BINS):
                    site.cohort_hist[s, b] *= 0.5
    if site.cohort_new_keys % REFRESH_EVERY == 0:
        read_quantiles(site)


@inline
def update_newcomer(site: Any, row: Any) -> None:
    """Move a counted newcomer's units up to the bins of its peaks, each peak capped."""
    for s in range(SLOW):
        peak = min(float64(row.peak[s]), CONTRIBUTION_CAP * site.cohort_q90[s])
        row.bin[s] = move_unit(site.cohort_hist, s, int64(row.bin[s]), peak)
