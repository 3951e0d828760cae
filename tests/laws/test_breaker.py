"""The circuit breaker against its oracle, and by the first law: trips, withdrawals and re-arming don't depend on blocks."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from engine.detector.throttle import Policy
from tests.oracles.breaker import BreakerOracle
from tests.oracles.detector import PartitionOracle
from tests.oracles.site import SiteBudget
from tests.oracles.verdicts import Verdict
from tests.support.faulty_limits import LimitsPeriod, limit_periods, regulars
from tests.support.runs import Run, fresh, verdicts_from
from tests.support.sequences import WINDOW_MS, Event, columns_of
from tests.support.twins import breaker_pairs, compare_state, compare_verdicts, verdicts_of
from topics.columns.scan import EventColumns

ROWS = 1024
SHARE = 0.1


@cache
def site(seed: int) -> tuple[list[Event], EventColumns, list[LimitsPeriod]]:
    events = regulars(seed)
    return events, columns_of(events), limit_periods(events)


def policy(factor: float, share: float = SHARE) -> Policy:
    return Policy(factor, WINDOW_MS, 0, 1, breaker_share=share)


def apply_span(run: Run, seed: int, first: int, last: int) -> None:
    """Apply events to a run, each under the limits of its period."""
    events, columns, periods = site(seed)
    for period, following in pairwise([*periods, LimitsPeriod(len(events), 1.0)]):
        run.partition.reconfigure(policy(period.factor))
        begin, end = max(first, period.first), min(last, following.first)
        if begin < end:
            run.apply(columns, begin, end)


@cache
def straight(seed: int) -> Run:
    """Return a run that has applied a site's events without interruption."""
    run = Run(fresh(policy(1.0), rows=ROWS))
    apply_span(run, seed, 0, len(site(seed)[0]))
    return run


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [SHARE, 0.02, 0.5])
def test_breaker_equals_its_oracle_while_limits_go_wrong_and_right_again(seed: int, share: float) -> None:
    events, columns, periods = site(seed)
    breaker = BreakerOracle(share)
    partition, oracle = fresh(policy(1.0, share), rows=ROWS), PartitionOracle(1.0, WINDOW_MS, breaker=breaker)
    verdicts: list[Verdict] = []
    long_open = 0

    for period, following in pairwise([*periods, LimitsPeriod(len(events), 1.0)]):
        partition.reconfigure(policy(period.factor, share))
        oracle.threshold = period.factor
        oracle.budget.budget = SiteBudget(period.factor, 0).budget
        for first in range(period.first, following.first, 200):
            last = min(first + 200, following.first)
            ours, theirs = partition.apply(columns, first, last), verdicts_of(oracle, events[first:last])
            compare_verdicts(ours, theirs)
            pairs = breaker_pairs(partition.state.site[0], breaker)
            assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}
            long_open += breaker.is_open and oracle.clock_ms > breaker.tripped_ms + 1_200_000
            verdicts += theirs

    compare_state(partition, oracle)
    assert (breaker.trips >= 2, breaker.withdrawn > 6, breaker.is_open, long_open > 0) == (True, True, False, True)
    early = [verdict for verdict in verdicts if verdict.kind == "release" and verdict.until_ms > verdict.issued_ms]
    assert len(early) == breaker.withdrawn


class RecordingBreaker(BreakerOracle):
    """A breaker that records its input: 1 for a newly throttled sender, 0 for one that sends without a throttle."""

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self.series: list[int] = []

    def count_throttle(self, key: int, clock_ms: int) -> bool:
        self.series.append(1)
        return super().count_throttle(key, clock_ms)

    def count_sender(self, last_ms: int, clock_ms: int, is_free: bool, is_alarmed: bool) -> None:
        before = self.free
        super().count_sender(last_ms, clock_ms, is_free, is_alarmed)
        self.series += [0] * (is_free and self.free != before and not self.is_open)


@pytest.mark.parametrize("seed", [1, 2])
def test_rivers_adwin_detects_the_same_change_within_four_senders(seed: int) -> None:
    """ADWIN checks at every sender here (clock 1); by default it checks at every 32nd."""
    breaker = RecordingBreaker(SHARE)
    oracle = PartitionOracle(1.0, WINDOW_MS, breaker=breaker)
    events, _, periods = site(seed)
    verdicts_of(oracle, events[: periods[1].first])
    calm = len(breaker.series)
    oracle.threshold = periods[1].factor

    for event in events[periods[1].first :]:
        if breaker.is_open:
            break
        verdicts_of(oracle, [event])
    window, detected = drift.ADWIN(delta=0.002, clock=1), []  # type: ignore[no-untyped-call]
    for i, item in enumerate([*breaker.series, *[1] * 20]):
        window.update(item)  # type: ignore[no-untyped-call]
        detected += [i] if window.drift_detected else []

    assert breaker.is_open
    assert len(breaker.series) - calm <= 12
    assert abs(detected[0] + 1 - len(breaker.series)) <= 4


def first_trip(seed: int) -> int:
    """Return the offset of the event that first trips the breaker."""
    events = site(seed)[0]
    tripped_ms = int(straight(seed).partition.state.site["breaker_tripped_ms"][0])
    return next(event.offset for event in events if event.ts_ms == tripped_ms)


CUTS = st.lists(st.integers(-30, 30), max_size=6)


@settings(max_examples=max(10, settings().max_examples // 4))
@given(st.sampled_from([1, 2]), CUTS, st.integers(1, 3), st.booleans())
def test_trip_does_not_depend_on_blocks_restarts_or_verdict_buffer(
    seed: int, cuts: list[int], room: int, restarts: bool
) -> None:
    size, tripped = len(site(seed)[0]), first_trip(seed)
    edges = sorted({0, size, *(min(max(tripped + cut, 0), size) for cut in cuts)})
    run = Run(fresh(policy(1.0), room=room, rows=ROWS))

    for first, last in pairwise(edges):
        apply_span(run, seed, first, last)
        run.checkpoint()
        if restarts:
            run.restart()

    assert run.result() == straight(seed).result()


def test_checkpoint_between_trip_and_withdrawals_keeps_pending_suspects() -> None:
    seed = 1
    events, after = site(seed)[0], first_trip(seed) + 1
    run = Run(fresh(policy(1.0), rows=ROWS))
    apply_span(run, seed, 0, after)
    pending = int(run.partition.state.site["breaker_pending"][0])
    assert pending >= 5

    run.checkpoint()
    run.restart()

    assert int(run.partition.state.site["breaker_pending"][0]) == pending
    apply_span(run, seed, after, len(events))
    assert run.result() == straight(seed).result()


def test_throttles_from_before_the_excess_stay_until_they_expire() -> None:
    verdicts = verdicts_from(straight(1).facts)
    events, _, periods = site(1)
    wrong_ms = [events[period.first].ts_ms for period in periods if period.factor < 1]

    early = verdicts[(verdicts["kind"] == 2) & (verdicts["until_ms"] > verdicts["issued_ms"])]

    assert len(early) > 5
    for release in early:
        own = verdicts[(verdicts["key"] == release["key"]) & (verdicts["kind"] == 1)]
        last_ms = own["issued_ms"][own["issued_ms"] <= release["issued_ms"]].max()
        assert min(abs(last_ms - start_ms) for start_ms in wrong_ms) < 600_000
    before = verdicts[(verdicts["kind"] == 1) & (verdicts["issued_ms"] < wrong_ms[0])]
    live = np.unique(before["key"][before["until_ms"] > wrong_ms[0]])
    assert len(live) >= 3
