"""The detector's statistics computed by river, where river has them, and by sorting. They check the detector's own twin.

Each function takes a whole series and returns what the detector must have after its last value. river has no notion of time,
so decay is compared on a regular grid, where a decayed counter is an exponentially weighted mean in other units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from river import stats


def decayed_counter(demands: Sequence[float], step_ms: int, tau_ms: int) -> float:
    """Return c = c · exp(-step/tau) + d over `demands`, one every `step_ms`, by river's EWMean.

    With a = exp(-step/tau), the mean of fading factor 1 - a is (1 - a) · c, if it starts at 0.
    """
    fading = -math.expm1(-step_ms / tau_ms)
    mean = stats.EWMean(fading)
    mean.update(0.0)
    for demand in demands:
        mean.update(demand)
    return float(mean.get()) / fading


def greatest(values: Sequence[float]) -> float:
    """Return the maximum by river's Max; 0 of no values."""
    running = stats.Max()
    running.update(0.0)
    for value in values:
        running.update(value)
    return float(running.get())


def typical_log(first: float, busiest_hours: Sequence[float], weight_most: int = 60) -> float:
    """Return the mean of ln(1 + x) over `busiest_hours` and `first` counted four times, by river's weighted Mean.

    From a weight of 60 on, by its EWMean of fading factor 1/60.
    """
    logs = [math.log1p(hour) for hour in busiest_hours]
    exact = weight_most - 4
    mean = stats.Mean()
    mean.update(first, 4.0)
    for x in logs[:exact]:
        mean.update(x)
    fading = stats.EWMean(1.0 / weight_most)
    fading.update(mean.get())
    for x in logs[exact:]:
        fading.update(x)
    return float(fading.get())


def exact_quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least a share `q` of all values doesn't exceed; 0 < q <= 1."""
    ranked = sorted(values)
    return ranked[max(1, math.ceil(q * len(ranked) - 1e-9)) - 1]


def river_quantile(values: Sequence[float], q: float) -> float:
    """Return the quantile by river's RollingQuantile over all of `values`, interpolated between neighbours."""
    rolling = stats.RollingQuantile(q, len(values))
    for value in values:
        rolling.update(value)
    return rolling.get() or 0.0
