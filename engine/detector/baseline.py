"""A sender's baseline: the decayed maximum of its own daily peaks, updated by the first event of a later UTC day.

Idle days cost nothing and are no evidence: senders are bursty and mostly silent, so only active days count. A peak is clipped
at four of the sender's own limits (learn, never freeze). Above eight newcomer limits the baseline grows by at most half per
active day: this bounds how much a patient attacker can train. While the site learns neither rule applies, so its big relays
are known when it begins to decide.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.budget import charge
from engine.detector.constants import (
    BRAKE,
    BRAKE_GROWTH,
    CLIP,
    FLOOR,
    HALF_LIFE_DAYS,
    HOUR,
    IDLE_DAYS,
    IDLE_DECAY_DAYS,
    PROBATION_DAYS,
    SATURATED,
    SCALES,
    SLOW,
    TYPICAL_WEIGHT_FIRST,
    TYPICAL_WEIGHT_MOST,
    WEIGHT_UNITS,
)
from engine.detector.limits import growth
from topics.columns.jit import inline
from topics.columns.memory import float64, int64


@inline
def _learned_peak(row: Any, site: Any, scale: int) -> float:
    """Return the open day's peak after clip and brake."""
    memory, newcomer = float64(row.memory[scale]), site.cohort_limit[scale if scale < SLOW else HOUR]
    active_days = int64(row.active_days)
    if row.day < site.decides_from:
        return float64(row.peak[scale])
    own = newcomer if active_days == 0 else max(growth(active_days, scale) * memory, FLOOR * newcomer)
    peak = min(float64(row.peak[scale]), CLIP * own)
    if peak > BRAKE * newcomer:
        peak = max(min(peak, BRAKE_GROWTH * memory), BRAKE * newcomer)
    return peak


@inline
def close_day(row: Any, site: Any, today: int) -> None:
    """Fold a row's open day into its baseline and open `today`, a later UTC day (days since 1970)."""
    idle_days = today - int64(row.day)
    decay = math.exp2(-idle_days / HALF_LIFE_DAYS)
    busiest_hour = _learned_peak(row, site, HOUR)
    for s in range(SCALES):
        row.memory[s] = max(float64(row.memory[s]) * decay, _learned_peak(row, site, s))
        row.peak[s] = 0.0
    weight = min(row.weight / WEIGHT_UNITS + 1.0, TYPICAL_WEIGHT_MOST)
    first_of_learning = row.active_days == 0 and row.day < site.decides_from
    typical = math.log(1.0 + busiest_hour) if first_of_learning else float64(row.typical)
    row.typical = typical + (math.log(1.0 + busiest_hour) - typical) / weight
    if idle_days > IDLE_DAYS:
        weight = max(TYPICAL_WEIGHT_FIRST, weight * math.exp(-(idle_days - IDLE_DAYS) / IDLE_DECAY_DAYS))
    row.weight = int64(weight * WEIGHT_UNITS)
    row.active_days = min(int64(row.active_days) + 1, SATURATED)
    row.day = today
    if row.active_days > PROBATION_DAYS:
        charge(row, site)
