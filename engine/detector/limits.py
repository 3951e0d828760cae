"""The limit of each decayed counter of a sender. A is the number of active days, G the growth factor of the scale.

    newcomer   (no closed day)       T x the cohort's limit
    probation  (1 to 3 active days)  max(2.75 baseline, floor)
    known      (more)                max(T^1/4 G (1 + 3/A) baseline, floor)
    floor                            T x the cohort's limit x 0.8 max(0.3, 1/sqrt(1 + A/50))
    10 minutes, 1 minute             T^1/4 G (1 + 3/A) baseline; known senders with a baseline of 30 messages there, else none

T scales a newcomer's limit fully and a known sender's little: a sender's own history is evidence, a newcomer's limit is policy.
"""

from __future__ import annotations

import math
from typing import Any

from engine.detector.constants import (
    FAST_LEAST,
    FLOOR,
    FLOOR_AGE_DAYS,
    FLOOR_LEAST,
    GROWTH,
    PROBATION_DAYS,
    PROBATION_GROWTH,
    SLOW,
    TENURE,
)
from topics.columns.jit import inline
from topics.columns.memory import float64, int64


@inline
def growth(active_days: int, scale: int) -> float:
    """Return the allowed multiple of the baseline at T = 1."""
    if active_days <= PROBATION_DAYS:
        return PROBATION_GROWTH
    return GROWTH[scale] * (1.0 + TENURE / active_days)


@inline
def limit(row: Any, site: Any, scale: int, threshold: float) -> float:
    """Return the limit of a row's counter at `scale`, infinity if the scale doesn't apply. `threshold` is T."""
    active_days = int64(row.active_days)
    if scale >= SLOW:
        if active_days <= PROBATION_DAYS or row.memory[scale] < FAST_LEAST:
            return math.inf
        return math.sqrt(math.sqrt(threshold)) * growth(active_days, scale) * float64(row.memory[scale])
    newcomer = threshold * site.cohort_limit[scale]
    if active_days == 0:
        return newcomer
    floor = newcomer * FLOOR * max(FLOOR_LEAST, 1.0 / math.sqrt(1.0 + active_days / FLOOR_AGE_DAYS))
    own = growth(active_days, scale) * float64(row.memory[scale])
    if active_days > PROBATION_DAYS:
        own *= math.sqrt(math.sqrt(threshold))
    return max(own, floor)
