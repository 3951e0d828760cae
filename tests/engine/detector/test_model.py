"""The parts of the model against their written-out formulas; the poisoning bound against documented figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detector.budget import percent_of, threshold_of
from engine.detector.cohort import open_cohort
from engine.detector.constants import SCALES
from engine.detector.layout import COUNTED, State, empty_state
from tests.support.kernels import (
    add_newcomer_one,
    bin_of_one,
    close_one,
    count_one,
    limits_of,
    quantile_of,
    read_site,
    update_newcomer_one,
)
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TAU_MS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, HOUR_MS // 6, HOUR_MS // 60)
NOON_MS = 19_700 * DAY_MS + 12 * HOUR_MS
GROWTH = (4.0, 3.0, 3.0)
STEP = 2 ** (1 / 6)


def opened() -> State:
    """Return an empty site with one empty row."""
    state = empty_state(1024)
    open_cohort(state.site)
    state.cursor["rows"] = 1
    return state


def with_row(limit: tuple[float, float, float] = (40.0, 80.0, 80.0), **fields: object) -> State:
    """Return a deciding site with these newcomer limits and a row of these fields; scales that aren't given are 0."""
    state = opened()
    state.site["cohort_limit"] = limit
    state.site["decides_from"] = 0
    for name, value in fields.items():
        state.rows[name][0] = (*value, *[0] * (SCALES - len(value))) if isinstance(value, tuple) else value
    return state


def limits(state: State, threshold: float = 1.0) -> list[float]:
    out = np.zeros(SCALES)
    limits_of(state, 0, threshold, out)
    return [float(value) for value in out]


def slow(values: Iterable[float]) -> list[float]:
    """Return the values of the hour, the six hours and the day."""
    return list(values)[:3]


def test_newcomers_limit_is_the_cohorts_times_the_threshold() -> None:
    assert slow(limits(with_row())) == [40, 80, 80]
    assert slow(limits(with_row(memory=(9, 9, 9)), 2.5)) == [100, 200, 200]


@pytest.mark.parametrize("days", [1, 2, 3])
def test_limit_on_probation_is_2_75_times_the_baseline(days: int) -> None:
    floor = 0.8 / math.sqrt(1 + days / 50)

    assert slow(limits(with_row(active_days=days, memory=(100, 200, 1)))) == pytest.approx([275, 550, 80 * floor])
    assert slow(limits(with_row(active_days=days, memory=(0, 0, 0)), 0.5)) == pytest.approx(
        [20 * floor, 40 * floor, 40 * floor]
    )


@pytest.mark.parametrize(("days", "threshold"), [(4, 1.0), (12, 16.0), (60, 0.0625), (65_535, 1.0)])
def test_limit_of_a_known_sender_is_a_multiple_of_its_baseline(days: int, threshold: float) -> None:
    own = [threshold**0.25 * growth * (1 + 3 / days) * 500 for growth in GROWTH]

    assert slow(limits(with_row(active_days=days, memory=(500, 500, 500)), threshold)) == pytest.approx(own)

    floor = 0.8 * max(0.3, 1 / math.sqrt(1 + days / 50)) * threshold

    assert slow(limits(with_row(active_days=days), threshold)) == pytest.approx([40 * floor, 80 * floor, 80 * floor])


def test_counters_decay_with_their_time_constants() -> None:
    state = with_row(last_ms=NOON_MS, counter=(100,) * 5, peak=(100,) * 5)
    count_one(state, 0, NOON_MS + 2 * HOUR_MS, 7, ACCEPTED)

    expected = [100 * math.exp(-2 * HOUR_MS / tau) + 7 for tau in TAU_MS]

    assert state.rows["counter"][0].tolist() == pytest.approx(expected, rel=1e-7)
    assert state.rows["peak"][0].tolist() == [100, 100, pytest.approx(max(100.0, expected[2])), 100, 100]
    assert state.rows["last_ms"][0] == NOON_MS + 2 * HOUR_MS


def test_late_event_adds_without_decay_and_leaves_the_clock() -> None:
    state = with_row(last_ms=NOON_MS, counter=(1, 2, 3, 4, 5))

    count_one(state, 0, NOON_MS - DAY_MS, 5, ACCEPTED)

    assert state.rows["counter"][0].tolist() == state.rows["peak"][0].tolist() == [6, 7, 8, 9, 10]
    assert state.rows["last_ms"][0] == NOON_MS


@pytest.mark.parametrize(
    ("outcome", "accepted", "demand"),
    [(ACCEPTED, 0, 10), (DEFERRED, 0, 0), (DEFERRED, 5, 0), (REJECTED, 0, 60), (REJECTED, 1, 10)],
)
def test_retry_is_no_demand_and_rejection_of_an_unaccepted_sender_weighs_six(
    outcome: int, accepted: int, demand: int
) -> None:
    state = with_row(accepted=accepted)

    count_one(state, 0, 0, 10, outcome)

    assert state.rows["counter"][0].tolist() == [demand] * 5
    assert state.rows["accepted"][0] == accepted + 10 * (outcome == ACCEPTED)
    assert state.rows["rejected"][0] == 10 * (outcome == REJECTED)


def test_message_counts_saturate() -> None:
    state = with_row(accepted=65_530, rejected=65_535)
    count_one(state, 0, 0, 1_000_000, ACCEPTED)

    count_one(state, 0, 0, 1, REJECTED)

    assert (state.rows["accepted"][0], state.rows["rejected"][0]) == (65_535, 65_535)


def close(state: State, idle_days: int = 1) -> State:
    close_one(state, 0, int(state.rows["day"][0]) + idle_days)
    return state


def test_closed_day_folds_its_peaks_into_the_baseline() -> None:
    state = close(with_row(active_days=9, day=50, peak=(5, 40, 60), memory=(20, 30, 55), weight=13_000, typical=1.5))
    row = state.rows[0]

    decay = 2 ** (-1 / 120)

    assert slow(row["memory"]) == pytest.approx([20 * decay, 40, 60], rel=1e-7)
    assert (row["peak"].tolist(), row["active_days"], row["day"]) == ([0] * 5, 10, 51)
    assert row["weight"] == 14_000
    assert row["typical"] == pytest.approx(1.5 + (math.log(6) - 1.5) / 14, rel=1e-7)


def test_baseline_halves_in_120_days() -> None:
    assert close(with_row(active_days=9, memory=(8, 80, 800)), 120).rows["memory"][0].tolist() == [4, 40, 400, 0, 0]


@pytest.mark.parametrize(("active_days", "memory", "own"), [(0, 0, 40), (2, 0, 32), (2, 20, 55), (6, 20, 120)])
def test_peak_is_clipped_at_four_own_limits(active_days: int, memory: float, own: float) -> None:
    state = close(
        with_row(active_days=active_days, peak=(4 * own + 1000, 0, 0), memory=(memory, 0, 0), limit=(40,) * 3)
    )

    braked = max(min(4 * own, 1.5 * memory), 320) if 4 * own > 320 else 4 * own

    assert state.rows["memory"][0, 0] == pytest.approx(braked)


def test_baseline_above_eight_newcomer_limits_grows_by_half_at_most() -> None:
    memory = close(with_row(active_days=20, peak=(900, 900, 900), memory=(400, 100, 800), limit=(40,) * 3)).rows[
        "memory"
    ][0]

    assert slow(memory) == pytest.approx([600, 320, 900])


def test_weight_of_the_busy_hour_is_bounded_and_decays_over_idle_weeks() -> None:
    assert close(with_row(weight=60_000)).rows["weight"][0] == 60_000
    assert close(with_row(weight=60_000), 7).rows["weight"][0] == 60_000
    assert close(with_row(weight=49_000), 37).rows["weight"][0] == math.floor(50_000 * math.exp(-1))
    assert close(with_row(weight=9_000), 300).rows["weight"][0] == 4_000


def test_active_days_saturate() -> None:
    assert close(with_row(active_days=65_535)).rows["active_days"][0] == 65_535


def trained(active_days: int, memory: float, days: int) -> list[int]:
    """Return the limits of a sender that stays just below them on each of `days` active days, at Lnew = 40 and T = 1."""
    state, allowed = with_row(active_days=active_days, memory=(memory,) * 3, limit=(40,) * 3), []
    for _ in range(days):
        allowed.append(limits(state)[2])
        state.rows["peak"][0, :3] = slow(limits(state))
        close(state)
    return [math.floor(limit + 1e-3 * limit / 100) for limit in allowed]


@pytest.mark.parametrize(
    ("active_days", "memory", "documented"),
    [(0, 0, (40, 110, 302, 831, 2382, 4594, 13_782, 64_407)), (60, 10, (31, 99, 311, 980, 1469, 3300, 11_119, 56_162))],
)
def test_slow_poisoning_is_bounded_as_documented(active_days: int, memory: float, documented: tuple[int, ...]) -> None:
    allowed = trained(active_days, memory, 14)

    assert [allowed[day - 1] for day in (1, 2, 3, 4, 5, 7, 10, 14)] == pytest.approx(documented, abs=1, rel=1e-4)
    assert all(later <= max(3.2 * 8 * 40, 1.5 * earlier) + 1 for earlier, later in pairwise(allowed[5:]))


@pytest.mark.parametrize(("active_days", "memory"), [(0, 0), (4, 40), (60, 10), (60, 5000)])
def test_thirty_days_of_the_best_slow_ramp_stay_below_the_published_bound(active_days: int, memory: float) -> None:
    """With a newcomer limit N: L(n) <= 5.25 max(8 N, M) 1.5^(n - 1), three times that in total; 5.25 is 3 (1 + 3/4)."""
    allowed = trained(active_days, memory, 30)

    bounds = [5.25 * max(8 * 40, memory) * 1.5**day for day in range(30)]

    assert all(one <= bound for one, bound in zip(allowed, bounds, strict=True))
    assert sum(allowed) <= 3 * bounds[-1]
    assert allowed[-1] > 100 * max(40, memory)


@given(st.floats(0, 1e6))
def test_bins_are_sixths_of_an_octave(peak: float) -> None:
    b = bin_of_one(peak)

    assert 0 <= b <= 95
    assert STEP**b - 1 <= peak * (1 + 1e-9) + 1e-9
    assert b == 95 or peak <= (STEP ** (b + 1) - 1) * (1 + 1e-9) + 1e-9


def test_bins_of_some_peaks() -> None:
    assert [bin_of_one(peak) for peak in (0, 0.1, 1, 3, 7, 1e9)] == [0, 0, 6, 12, 18, 95]


def test_empty_site_has_the_priors_limits() -> None:
    prior = [12 * 0.85**b if 1 <= b <= 39 else 0 for b in range(96)]

    site = opened().site[0]

    assert site["cohort_hist"].tolist() == [pytest.approx(prior)] * 3
    assert sum(prior) == pytest.approx(67.9, abs=0.1)

    b = next(b for b in range(96) if sum(prior[: b + 1]) >= 0.9 * sum(prior))

    assert site["cohort_q90"].tolist() == [pytest.approx(STEP ** (b + 1) - 1)] * 3
    assert site["cohort_limit"].tolist() == pytest.approx(
        [10 * site["cohort_q90"][0], 20 * site["cohort_q90"][0], 20 * site["cohort_q90"][0]]
    )


def test_quantile_is_the_upper_edge_of_the_bin_that_reaches_it() -> None:
    state = opened()
    state.site["cohort_hist"] = 0

    state.site["cohort_hist"][0, 1, [6, 18]] = (9, 1)

    assert quantile_of(state, 1, 0.9) == pytest.approx(STEP**7 - 1)
    assert quantile_of(state, 1, 0.91) == pytest.approx(STEP**19 - 1)
    assert quantile_of(state, 1, 1.0) == pytest.approx(STEP**19 - 1)


def test_site_that_rejects_all_newcomers_allows_them_ten_messages_an_hour() -> None:
    state = opened()
    state.site["cohort_hist"] = 0
    state.site["cohort_hist"][0, :, 0] = 1000

    read_site(state)

    assert state.site["cohort_limit"][0].tolist() == [10, 20, 20]


AGED_MS = 3 * DAY_MS


def newcomer(state: State, number: int, t_ms: int = AGED_MS) -> None:
    """Add a new sender in a /16 of its own."""
    state.rows["key"][number] = (0xFFFFFFFF << 32) | number << 16
    state.site["first_ms"] = 0
    add_newcomer_one(state, number, t_ms)


def test_only_four_new_senders_of_a_neighbourhood_count_within_a_day() -> None:
    state, counted = opened(), []
    state.site["first_ms"] = 0

    for number, t_ms in enumerate([AGED_MS] * 6 + [AGED_MS + 3 * DAY_MS] * 5):
        state.rows["key"][number] = (0xFFFFFFFF << 32) | 0x0A010000 | number
        add_newcomer_one(state, number, t_ms)
        counted.append(bool(state.rows["flags"][number] & COUNTED))

    assert counted == [True] * 4 + [False] * 2 + [True] * 3 + [False] * 2


def test_unit_follows_its_newcomer_up_to_the_cap() -> None:
    state = opened()
    before = state.site["cohort_hist"][0].copy()
    newcomer(state, 0)
    for peak in (1, 3, 1e6):
        state.rows["peak"][0] = peak
        update_newcomer_one(state, 0)

    top = bin_of_one(1.5 * float(state.site["cohort_q90"][0, 0]))

    assert state.rows["bin"][0].tolist() == [top] * 3

    moved = state.site["cohort_hist"][0] - before

    assert moved[:, top].tolist() == [1, 1, 1]
    assert np.abs(np.delete(moved, top, axis=1)).max() < 1e-12


def test_cohort_is_halved_every_500_newcomers_and_read_every_32() -> None:
    state = opened()
    total = state.site["cohort_hist"][0].sum(axis=1)
    q90 = state.site["cohort_q90"][0, 0]

    for number in range(500):
        newcomer(state, number, AGED_MS + number * DAY_MS)
        assert number >= 31 or state.site["cohort_q90"][0, 0] == q90

    assert state.site["cohort_hist"][0].sum(axis=1) == pytest.approx((total + 500) / 2)
    assert (state.site["cohort_since_halving"][0], state.site["cohort_new_keys"][0]) == (0, 500)
    assert state.site["cohort_q90"][0, 0] < q90


@pytest.mark.parametrize(("percent", "threshold"), [(0.415, 1.0), (0.5, 0.8), (0.1, 5.5), (1.0, 0.35)])
def test_threshold_and_budget_are_inverse(percent: float, threshold: float) -> None:
    assert threshold_of(percent) == pytest.approx(threshold, rel=0.01)
    assert percent_of(threshold_of(percent)) == pytest.approx(percent)
