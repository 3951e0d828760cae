"""The fleet guard against its twin, and by the first law: it trips, takes back and re-arms at the same events, however they
arrive."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from engine.detector.throttle import Policy
from tests.laws.test_twin import ask_oracle, compare_state, compare_verdict
from tests.oracles.detector import PartitionOracle
from tests.oracles.guard import Guard
from tests.oracles.site import Books
from tests.oracles.verdicts import Verdict
from tests.simulation.judging import guard_pairs
from tests.support.fleets import Spell, fleet, spells
from tests.support.runs import Run, fresh, verdicts_from
from tests.support.sequences import WINDOW_MS, Event, columns_of
from topics.columns.scan import EventColumns

ROWS = 1024
CAP = 0.1


@cache
def site(seed: int) -> tuple[list[Event], EventColumns, list[Spell]]:
    events = fleet(seed)
    return events, columns_of(events), spells(events)


def policy(factor: float, cap: float = CAP) -> Policy:
    return Policy(factor, WINDOW_MS, 0, 1, guard=cap)


def go(run: Run, seed: int, first: int, last: int) -> None:
    """Apply events to a run, each under the limits of its spell."""
    events, columns, faults = site(seed)
    for spell, following in pairwise([*faults, Spell(len(events), 1.0)]):
        run.partition.policy = policy(spell.factor)
        begin, end = max(first, spell.first), min(last, following.first)
        if begin < end:
            run.apply(columns, begin, end)


@cache
def straight(seed: int, last: int | None = None) -> Run:
    run = Run(fresh(policy(1.0), rows=ROWS))
    go(run, seed, 0, len(site(seed)[0]) if last is None else last)
    return run


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("cap", [CAP, 0.02, 0.5])
def test_the_twins_agree_while_limits_go_wrong_and_right_again(seed: int, cap: float) -> None:
    events, columns, faults = site(seed)
    partition, oracle = fresh(policy(1.0, cap), rows=ROWS), PartitionOracle(1.0, WINDOW_MS, guard=Guard(cap))
    theirs: list[Verdict] = []
    refused = 0
    for spell, following in pairwise([*faults, Spell(len(events), 1.0)]):
        partition.policy, oracle.threshold = policy(spell.factor, cap), spell.factor
        oracle.books.budget = Books(spell.factor, 0).budget
        for first in range(spell.first, following.first, 200):
            last = min(first + 200, following.first)
            ours, said = partition.apply(columns, first, last), ask_oracle(oracle, events[first:last])
            assert len(ours) == len(said)
            for one, other in zip(ours, said, strict=True):
                compare_verdict(one, other)
            assert oracle.guard is not None
            pairs = guard_pairs(partition.state.site[0], oracle.guard)
            assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}
            refused += oracle.guard.tripped and oracle.clock_ms > oracle.guard.tripped_ms + 1_200_000
            theirs += said
    compare_state(partition, oracle)
    guard = oracle.guard
    assert guard is not None
    assert (guard.trips >= 2, guard.withdrawn > 6, guard.tripped, refused > 0) == (True, True, False, True)
    early = [verdict for verdict in theirs if verdict.kind == "release" and verdict.until_ms > verdict.issued_ms]
    assert len(early) == guard.withdrawn


class Telling(Guard):
    """A guard that keeps what it has seen: 1 for a sender throttled anew, 0 for one that sends freely."""

    def __init__(self, cap: float) -> None:
        super().__init__(cap)
        self.series: list[int] = []

    def throttled(self, key: int, clock_ms: int) -> bool:
        self.series.append(1)
        return super().throttled(key, clock_ms)

    def accepted(self, last_ms: int, clock_ms: int, free: bool, alarm: bool) -> None:
        before = self.free
        super().accepted(last_ms, clock_ms, free, alarm)
        self.series += [0] * (free and self.free != before and not self.tripped)


@pytest.mark.parametrize("seed", [1, 2])
def test_rivers_adwin_sees_the_same_change_within_a_few_senders(seed: int) -> None:
    """Asked at every sender (clock 1); as it comes, it asks at every 32nd."""
    guard = Telling(CAP)
    oracle = PartitionOracle(1.0, WINDOW_MS, guard=guard)
    events, _, faults = site(seed)
    ask_oracle(oracle, events[: faults[1].first])
    calm = len(guard.series)
    oracle.threshold = faults[1].factor
    for event in events[faults[1].first :]:
        if guard.tripped:
            break
        ask_oracle(oracle, [event])
    window, seen = drift.ADWIN(delta=0.002, clock=1), []  # type: ignore[no-untyped-call]
    for i, item in enumerate([*guard.series, *[1] * 20]):
        window.update(item)  # type: ignore[no-untyped-call]
        seen += [i] if window.drift_detected else []
    assert guard.tripped
    assert len(guard.series) - calm <= 12
    assert abs(seen[0] + 1 - len(guard.series)) <= 4


def tripping(seed: int) -> int:
    """The event that trips the guard first."""
    events = site(seed)[0]
    tripped_ms = int(straight(seed).partition.state.site["tripped_ms"][0])
    found = [event.offset for event in events if event.ts_ms == tripped_ms]
    return found[0]


CUTS = st.lists(st.integers(-30, 30), max_size=6)


@settings(max_examples=max(10, settings().max_examples // 4))
@given(st.sampled_from([1, 2]), CUTS, st.integers(1, 3), st.booleans())
def test_blocks_restarts_and_small_verdict_buffers_change_nothing_around_a_trip(
    seed: int, cuts: list[int], room: int, restarts: bool
) -> None:
    size, tripped = len(site(seed)[0]), tripping(seed)
    places = sorted({0, size, *(min(max(tripped + cut, 0), size) for cut in cuts)})
    run = Run(fresh(policy(1.0), room=room, rows=ROWS))
    for first, last in pairwise(places):
        go(run, seed, first, last)
        run.checkpoint()
        if restarts:
            run.restart()
    assert run.result() == straight(seed).result()


def test_a_checkpoint_between_the_trip_and_what_it_takes_back_forgets_nothing() -> None:
    seed = 1
    events, after = site(seed)[0], tripping(seed) + 1
    run = Run(fresh(policy(1.0), rows=ROWS))
    go(run, seed, 0, after)
    leaving = int(run.partition.state.site["leaving"][0])
    assert leaving >= 5
    run.checkpoint()
    run.restart()
    assert int(run.partition.state.site["leaving"][0]) == leaving
    go(run, seed, after, len(events))
    assert run.result() == straight(seed).result()


def test_what_was_listed_before_the_excess_stays_listed_until_it_lapses() -> None:
    verdicts = verdicts_from(straight(1).facts)
    early = verdicts[(verdicts["kind"] == 2) & (verdicts["until_ms"] > verdicts["issued_ms"])]
    assert len(early) > 5
    events, _, faults = site(1)
    wrong_ms = [events[spell.first].ts_ms for spell in faults if spell.factor < 1]
    for release in early:
        own = verdicts[(verdicts["key"] == release["key"]) & (verdicts["kind"] == 1)]
        last_ms = own["issued_ms"][own["issued_ms"] <= release["issued_ms"]].max()
        assert min(abs(last_ms - start_ms) for start_ms in wrong_ms) < 600_000
    before = verdicts[(verdicts["kind"] == 1) & (verdicts["issued_ms"] < wrong_ms[0])]
    live = np.unique(before["key"][before["until_ms"] > wrong_ms[0]])
    assert len(live) >= 3
