"""A sender's counts over the last day, computed back from its events and the current counter."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.detector.constants import HOUR_MS
from engine.web.history import decayed_counts

EVENTS = st.lists(st.tuples(st.integers(0, 86_400_000), st.integers(1, 50)), min_size=1, max_size=30)


@given(EVENTS, EVENTS, st.sampled_from([HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS]))
def test_counts_from_recent_events_and_current_counter_are_those_of_all_events(
    older: list[tuple[int, int]], newer: list[tuple[int, int]], tau_ms: int
) -> None:
    day = 86_400_000
    all_events = [*sorted(older), *sorted((at_ms + day, amount) for at_ms, amount in newer)]
    end_ms, count, last_ms, truth = 2 * day + 1, 0.0, 0, []
    for at_ms, amount in all_events:
        count = count * math.exp(-(at_ms - last_ms) / tau_ms) + amount
        last_ms = at_ms
        truth.append(count)
    now = count * math.exp(-(end_ms - last_ms) / tau_ms)
    shown = all_events[len(older) :]

    times_ms = np.array([*(at_ms for at_ms, _ in shown), end_ms], np.int64)
    counted = decayed_counts(times_ms, np.array([amount for _, amount in shown], np.float64), tau_ms, now)

    assert counted[-1] == now
    span = (end_ms - shown[0][0]) / tau_ms
    remainder = truth[len(older)] - shown[0][1]  # of the older events when the first shown one arrived
    error = 1e-6 * max(truth) if span < 3 else remainder
    assert np.abs(counted[:-1] - np.array(truth[len(older) :])).max() <= error + 1e-9
