"""The detector's oracle checked in turn: by river, by sorting, by the poisoning table, by laws that need no twin."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from itertools import cycle, islice
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.detector import PartitionOracle
from tests.oracles.senders import DAY_MS, HOUR_MS, SCALES, TAU_MS, OracleRow, add_demand, close_day, limits_of
from tests.oracles.site import BINS_PER_OCTAVE, bin_of, quantile
from tests.oracles.statistics import decayed_counter, exact_quantile, greatest, river_quantile, typical_log
from tests.oracles.verdicts import Verdict

START_MS = 19_000 * DAY_MS
WINDOW_MS = DAY_MS
THIRD_SCALE = 2
FLOAT32 = 1e-6
TERM_MS = {name: max(tau_ms, 600_000) for name, tau_ms in zip(SCALES, TAU_MS, strict=True)}
GAPS_MS = (0, 1, 999, 60_000, HOUR_MS // 2, HOUR_MS, 5 * HOUR_MS, DAY_MS, 2 * DAY_MS + 1, 9 * DAY_MS, 200 * DAY_MS)
COUNTS = (0, 1, 2, 3, 10, 55, 400, 5_000)
OUTCOMES = ("accepted", "accepted", "accepted", "deferred", "rejected")


class Offer(NamedTuple):
    """An event of a sequence."""

    gap_ms: int  # since the event before it
    key: int
    messages: int
    outcome: str


OFFERS = st.builds(
    Offer, st.sampled_from(GAPS_MS), st.integers(1, 4), st.sampled_from(COUNTS), st.sampled_from(OUTCOMES)
)
HISTORIES = st.builds(
    lambda days, messages: [Offer(DAY_MS, 1, messages, "accepted")] * days, st.integers(0, 9), st.integers(1, 40)
)
SEQUENCES = st.builds(list.__add__, HISTORIES, st.lists(OFFERS, min_size=1, max_size=80))


def run(oracle: PartitionOracle, offers: list[Offer], start_ms: int = START_MS) -> list[Verdict]:
    verdicts, t_ms = [], start_ms
    for offset, offer in enumerate(offers):
        t_ms += offer.gap_ms
        verdicts += oracle.apply(offset, t_ms, None, offer.key, offer.messages, offer.outcome)
    return verdicts


def newcomer(typical: float = 0.0) -> OracleRow:
    return OracleRow(last_ms=START_MS, first_seen_s=START_MS // 1000, day=START_MS // DAY_MS, typical=typical)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60), st.sampled_from((60_000, HOUR_MS, 7 * HOUR_MS)))
def test_decayed_counter_equals_rivers_weighted_mean_in_other_units(demands: list[int], step_ms: int) -> None:
    row = newcomer()

    for i, demand in enumerate(demands):
        add_demand(row, START_MS + i * step_ms, demand)

    for s, tau_ms in enumerate(TAU_MS):
        assert row.counter[s] == pytest.approx(decayed_counter(demands, step_ms, tau_ms), rel=1e-5, abs=1e-5)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=40), st.sampled_from((60_000, HOUR_MS, 7 * HOUR_MS)))
def test_peak_of_a_day_is_the_greatest_counter(demands: list[int], step_ms: int) -> None:
    row = newcomer()
    counters: list[list[float]] = []

    for i, demand in enumerate(demands):
        add_demand(row, START_MS + i * step_ms, demand)
        counters.append(list(row.counter))

    assert row.peak == [greatest([seen[s] for seen in counters]) for s in range(5)]


@pytest.mark.parametrize("days", [1, 7, 55, 56, 57, 120])
@given(st.floats(0.0, 3.0), st.lists(st.integers(0, 300), min_size=1, max_size=30))
def test_typical_hour_is_a_log_mean_of_weight_four_to_sixty(days: int, first: float, pattern: list[int]) -> None:
    hours = list(islice(cycle(pattern), days))
    row = newcomer(first)

    for hour in hours:
        row.peak = [float(hour), 0.0, 0.0, 0.0, 0.0]
        close_day(row, 1, [1e9, 1e9, 1e9])

    assert row.typical == pytest.approx(typical_log(first, hours), rel=1e-4, abs=1e-4)
    assert row.weight == min(4 + days, 60)


@given(st.lists(st.floats(0.0, 50_000.0), min_size=1, max_size=200), st.sampled_from((0.5, 0.9)))
def test_quantile_of_a_histogram_is_within_a_bin_of_the_exact_one(peaks: list[float], q: float) -> None:
    histogram = [0.0] * 96
    for peak in peaks:
        histogram[bin_of(peak)] += 1.0

    octaves = abs(math.log2(1.0 + quantile(histogram, q)) - math.log2(1.0 + exact_quantile(peaks, q)))

    assert octaves * BINS_PER_OCTAVE <= 1.0 + 1e-9


def test_exact_quantile_equals_rivers_for_whole_ranks() -> None:
    values = [float(v * v % 101) for v in range(21)]

    for q in (0.25, 0.5, 0.75, 1.0):
        assert river_quantile(values, q) == exact_quantile(values, (q * 20 + 1) / 21)


def train(row: OracleRow, lnew: float, days: int) -> list[float]:
    """Send exactly the longest scale's limit on each of `days` days, as an attacker would. Return those limits."""
    sent = []
    for _ in range(days):
        limit = limits_of(row, [lnew] * 3, 1.0)[THIRD_SCALE]
        row.peak = [0.0, 0.0, limit, 0.0, 0.0]
        close_day(row, 1, [lnew] * 3)
        sent.append(limit)
    return sent


def test_patient_attacker_trains_a_new_address_no_faster_than_the_bound() -> None:
    sent = train(newcomer(), 40.0, 14)

    assert [int(sent[day - 1]) for day in (1, 2, 3, 4, 5, 7, 10, 14)] == [
        40, 110, 302, 831, 2382, 4594, 13782, 64407,
    ]  # fmt: skip


@given(
    st.lists(st.floats(0.0, 1e6), min_size=5, max_size=5),
    st.lists(st.floats(0.0, 1e8), min_size=5, max_size=5),
    st.integers(0, 500),
    st.floats(1.0, 1e4),
    st.integers(1, 400),
)
def test_day_raises_a_baseline_above_eight_newcomer_limits_by_at_most_half(
    memory: list[float], peak: list[float], active_days: int, lnew: float, idle_days: int
) -> None:
    row = replace(newcomer(), memory=memory, peak=peak, active_days=active_days)

    close_day(row, idle_days, [lnew] * 3)

    assert row.peak == [0.0] * 5
    for before, after in zip(memory, row.memory, strict=True):
        assert after <= max(8.0 * lnew, 1.5 * before) * (1.0 + FLOAT32)
        assert after >= before * 2.0 ** (-idle_days / 120) * (1.0 - FLOAT32) - 1e-30


@given(SEQUENCES, st.integers(1, 3_000))
def test_result_is_the_same_whole_days_later_but_for_times(offers: list[Offer], days: int) -> None:
    one, other = PartitionOracle(1.0, WINDOW_MS), PartitionOracle(1.0, WINDOW_MS)
    later_ms = days * DAY_MS

    verdicts = run(one, offers)

    times = ("issued_ms", "until_ms", "first_seen_ms")
    shifted = [
        replace(v, **{name: getattr(v, name) + later_ms for name in times if getattr(v, name)}) for v in verdicts
    ]
    assert run(other, offers, START_MS + later_ms) == shifted
    for key, row in one.rows.items():
        moved = replace(
            row,
            last_ms=row.last_ms + later_ms,
            until_ms=row.until_ms + later_ms if row.until_ms else 0,
            first_seen_s=row.first_seen_s + later_ms // 1000,
            day=row.day + days,
        )
        assert asdict(other.rows[key]) == asdict(moved)
    assert other.cohort.hist == one.cohort.hist


@given(st.lists(st.floats(0.0, 1e6), min_size=5, max_size=5), st.integers(0, 500), st.floats(0.1, 10.0))
def test_higher_threshold_lowers_no_limit(memory: list[float], active_days: int, threshold: float) -> None:
    row = replace(newcomer(), memory=memory, active_days=active_days)

    strict, lenient = (limits_of(row, [40.0, 80.0, 80.0], t) for t in (threshold, 2.0 * threshold))

    assert all(low <= high for low, high in zip(strict, lenient, strict=True))
    if active_days == 0:
        assert lenient == tuple(2.0 * low for low in strict)


def first_throttles(verdicts: list[Verdict]) -> dict[int, int]:
    """Return the offset of each sender's first throttle."""
    first: dict[int, int] = {}
    for verdict in verdicts:
        if verdict.kind == "throttle":
            first.setdefault(verdict.key, verdict.offset)
    return first


@given(SEQUENCES, st.sampled_from((0.25, 0.6, 1.0, 1.69, 4.0)))
def test_doubled_threshold_throttles_no_sender_earlier(offers: list[Offer], threshold: float) -> None:
    strict = first_throttles(run(PartitionOracle(threshold, WINDOW_MS), offers))
    lenient = first_throttles(run(PartitionOracle(2.0 * threshold, WINDOW_MS), offers))

    for key, offset in lenient.items():
        assert strict[key] <= offset


@given(SEQUENCES, st.integers(1, 4), st.sampled_from(GAPS_MS), st.sampled_from(COUNTS))
def test_retry_issues_no_throttle_and_adds_no_demand(offers: list[Offer], key: int, gap_ms: int, messages: int) -> None:
    oracle = PartitionOracle(1.0, WINDOW_MS)
    run(oracle, offers)
    t_ms = oracle.clock_ms + gap_ms
    before = list(oracle.rows[key].counter) if key in oracle.rows else [0.0] * 5
    counts = (oracle.rows[key].accepted, oracle.rows[key].rejected) if key in oracle.rows else (0, 0)

    verdicts = oracle.apply(len(offers), t_ms, None, key, messages, "deferred")

    row = oracle.rows[key]
    assert all(verdict.kind == "release" for verdict in verdicts)
    assert all(now <= was for now, was in zip(row.counter, before, strict=True))
    assert (row.accepted, row.rejected) == counts


def throttled(messages: int) -> PartitionOracle:
    """Return a partition whose only sender, a newcomer, was throttled at START_MS for a burst."""
    oracle = PartitionOracle(1.0, WINDOW_MS)
    assert [verdict.kind for verdict in run(oracle, [Offer(0, 1, messages, "accepted")])] == ["throttle"]
    return oracle


def test_retry_extends_no_throttle_that_a_message_would_extend() -> None:
    later_ms = START_MS + DAY_MS * 3 // 4

    assert [verdict.kind for verdict in throttled(50_000).apply(1, later_ms, None, 1, 1, "accepted")] == ["throttle"]
    assert throttled(50_000).apply(1, later_ms, None, 1, 1, "deferred") == []


@pytest.mark.parametrize(("later_ms", "issued"), [(1, 0), (DAY_MS // 2, 0), (DAY_MS // 2 + 1, 1), (DAY_MS - 1, 1)])
def test_throttle_is_extended_when_less_than_half_of_its_term_is_left(later_ms: int, issued: int) -> None:
    assert len(throttled(50_000).apply(1, START_MS + later_ms, None, 1, 1, "accepted")) == issued


@pytest.mark.parametrize(("share", "issued"), [(0.79, 1), (0.81, 0), (0.95, 0)])
def test_rate_that_has_fallen_by_a_fifth_is_issued_again_immediately(share: float, issued: int) -> None:
    oracle = throttled(50_000)
    oracle.rows[1].rate_per_h /= share

    assert len(oracle.apply(1, START_MS, None, 1, 1, "accepted")) == issued


def test_releases_are_ordered_by_end_and_key() -> None:
    oracle = PartitionOracle(1.0, WINDOW_MS)
    bursts = [Offer(0, 1, 5_000, "accepted"), *(Offer(0, key, 60, "accepted") for key in (4, 2, 3))]
    assert len(run(oracle, bursts)) == 4

    ended = oracle.apply(4, START_MS + 3 * DAY_MS, None, 9, 1, "accepted")

    assert [(verdict.kind, verdict.key) for verdict in ended] == [("release", key) for key in (2, 3, 4, 1)]


@given(SEQUENCES, st.sampled_from((0.25, 1.0)))
def test_no_throttle_is_issued_again_within_half_a_term_unless_its_rate_falls_by_a_fifth(
    offers: list[Offer], threshold: float
) -> None:
    active: dict[int, Verdict] = {}

    for verdict in run(PartitionOracle(threshold, WINDOW_MS), offers):
        before = active.pop(verdict.key, None)
        if verdict.kind == "release":
            assert before is not None
            assert before.until_ms == verdict.until_ms <= verdict.issued_ms
            continue
        active[verdict.key] = verdict
        term_ms = max(TERM_MS[scale] for scale in verdict.scales)
        if before is not None and 2 * (before.until_ms - verdict.issued_ms) >= term_ms:
            assert verdict.rate_per_min <= 0.8 * before.rate_per_min * (1.0 + FLOAT32)


@given(SEQUENCES)
def test_throttle_has_an_exceeded_scale_and_a_full_term(offers: list[Offer]) -> None:
    for verdict in run(PartitionOracle(1.0, WINDOW_MS), offers):
        if verdict.kind == "throttle":
            exceeded = [s for s, name in enumerate(SCALES) if name in verdict.scales]
            others = [s for s, name in enumerate(SCALES) if name not in verdict.scales]
            assert exceeded
            assert all(verdict.counters[s] > verdict.limits[s] for s in exceeded)
            assert all(verdict.counters[s] <= verdict.limits[s] for s in others)
            assert verdict.until_ms >= verdict.issued_ms + max(TERM_MS[name] for name in verdict.scales)
            assert verdict.burst == pytest.approx(max(1.0, 60.0 * verdict.rate_per_min))
            assert verdict.reason == ("probation" if verdict.active_days <= 3 else "volume")
