"""Memory that has an end: the compiled partition against `tests.oracles.bounded`, and the first law with tables so small
that newcomers wait, rows are evicted and prefixes are throttled."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.eviction import BINS
from engine.detector.layout import PASSED
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from tests.laws.test_twin import ask_oracle, compare_row, compare_verdict, same
from tests.oracles.bounded import BoundedOracle, kept_until
from tests.oracles.verdicts import Verdict
from tests.support.crowds import besieged_sequence, crowds
from tests.support.kernels import horizon_of
from tests.support.runs import Run, fresh, rows_of, verdicts_from
from tests.support.sequences import WINDOW_MS, Event, columns_of

ROWS = st.sampled_from([16, 32])
THRESHOLDS = st.sampled_from([1.0, 0.2, 0.05])
LONG = besieged_sequence(3, 30_000)
LONG_ROWS = 64


def compare_bounds(partition: Partition, oracle: BoundedOracle) -> None:
    """Rows, door, prefixes and what the site says of them."""
    rows, site, state = rows_of(partition), partition.state.site[0], partition.state
    assert rows["key"].tolist() == sorted(oracle.rows)
    for row in rows:
        compare_row(row, oracle.rows[int(row["key"])])
        assert bool(row["flags"] & PASSED) == oracle.rows[int(row["key"])].passes
    said = [int(site[name]) for name in ("untracked", "evicted", "horizon_ms", "sweep_after_ms")]
    assert said == [oracle.untracked, oracle.evicted, oracle.horizon_ms, oracle.sweep_after_ms]
    assert int(state.door["keys"][0]) == oracle.door.keys
    bits = np.unpackbits(state.door["bits"][0].view(np.uint8), bitorder="little")
    assert set(np.flatnonzero(bits).tolist()) == oracle.door.bits
    used = {
        (rank, line): state.flood[rank, line]
        for rank, line in zip(*np.nonzero(state.flood["last_ms"].any(2)), strict=True)
    }
    assert {place for place, found in oracle.flood.sets.items() if any(one.last_ms for one in found)} == set(used)
    for place, ours in used.items():
        theirs = oracle.flood.sets[int(place[0]), int(place[1])]
        for name in ("key", "last_ms", "until_ms"):
            assert ours[name].tolist() == [getattr(one, name) for one in theirs], name
        assert same(ours["demand"], [one.demand for one in theirs])
        assert same(ours["rate_per_h"], [one.rate_per_h for one in theirs])


def judged(events: list[Event], threshold: float, rows: int) -> tuple[BoundedOracle, list[Verdict]]:
    """The oracle and its verdicts, after the partition was found to be of the same opinion."""
    partition = fresh(Policy(threshold, WINDOW_MS, 0, 1), rows=rows)
    oracle = BoundedOracle(threshold, WINDOW_MS, rows)
    ours, theirs = partition.apply(columns_of(events), 0, len(events)), ask_oracle(oracle, events)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        compare_verdict(one, other)
    compare_bounds(partition, oracle)
    return oracle, theirs


@settings(max_examples=2 * settings().max_examples)
@given(crowds(), THRESHOLDS, ROWS)
def test_a_small_partition_and_its_twin_agree(events: list[Event], threshold: float, rows: int) -> None:
    judged(events, threshold, rows)


LEAST = {
    "throttle": 100, "release": 100, "prefix 24": 3, "prefix 16": 3, "prefix 56": 3, "prefix 48": 3, "prefix 32": 3,
    "prefix again": 5, "passed": 20, "passed again": 1, "evicted": 200, "sweeps put off": 1, "untracked": 5000,
}  # fmt: skip


def reached(seed: int, threshold: float, rows: int) -> Counter[str]:
    """How often a long siege went where bounded memory has something to decide; the twins agree about all of it."""
    oracle, verdicts = judged(besieged_sequence(seed, 30_000), threshold, rows)
    found, held = Counter[str](), dict[tuple[int, int], int]()
    for verdict in verdicts:
        place = verdict.key, verdict.prefix
        kind = f"prefix {verdict.prefix}" if verdict.prefix else "passed" if verdict.within else ""
        live = held.get(place, 0) > verdict.issued_ms
        found[verdict.kind] += 1
        found[kind] += verdict.kind == "throttle"
        found[f"{kind.split(' ', 1)[0]} again"] += verdict.kind == "throttle" and live
        held[place] = verdict.until_ms
    found["evicted"], found["untracked"] = oracle.evicted, oracle.untracked
    found["sweeps put off"] = oracle.sweep_after_ms > 0
    return found


def test_a_long_siege_goes_everywhere_and_the_twins_agree_to_its_end() -> None:
    found = reached(3, 1.0, LONG_ROWS) + reached(9, 0.3, 32)
    assert {name: found[name] for name, least in LEAST.items() if found[name] < least} == {}


def whole(events: list[Event], rows: int) -> Run:
    run = Run(fresh(Policy(0.2, WINDOW_MS, 0, 1), rows=rows))
    run.apply(columns_of(events))
    return run


@given(crowds(), st.lists(st.integers(0, 120), max_size=6), ROWS, st.integers(1, 3))
def test_blocks_may_be_cut_anywhere_in_a_full_table(events: list[Event], cuts: list[int], rows: int, room: int) -> None:
    columns, small = columns_of(events), Run(fresh(Policy(0.2, WINDOW_MS, 0, 1), rows=rows, room=room))
    edges = sorted([0, len(events), *(min(cut, len(events)) for cut in cuts)])
    for first, last in pairwise(edges):
        small.apply(columns, max(0, first - 5), last)
    assert small.result() == whole(events, rows).result()


@given(crowds(), st.lists(st.integers(0, 120), max_size=6), ROWS, st.integers(0, 40))
def test_a_restart_of_a_full_table_changes_nothing(events: list[Event], cuts: list[int], rows: int, lost: int) -> None:
    columns, run = columns_of(events), Run(fresh(Policy(0.2, WINDOW_MS, 0, 1), rows=rows))
    edges = sorted([0, len(events), *(min(cut, len(events)) for cut in cuts)])
    for first, last in pairwise(edges):
        run.apply(columns, first, last)
        run.checkpoint()
        kept = run.facts
        run.apply(columns, last, min(last + lost, len(events)))
        run.facts = kept
        run.restart()
    assert run.result() == whole(events, rows).result()


@pytest.mark.parametrize(("each", "restarts"), [(50, 60), (1000, 1)])
def test_a_long_siege_survives_many_restarts(each: int, restarts: int) -> None:
    columns, run = columns_of(LONG), Run(fresh(rows=LONG_ROWS))
    for number, first in enumerate(range(0, len(LONG), each)):
        run.apply(columns, first, first + each)
        run.checkpoint()
        if (number + 1) % restarts == 0:
            run.restart()
    straight = Run(fresh(rows=LONG_ROWS))
    straight.apply(columns)
    assert run.result() == straight.result()
    assert len(verdicts_from(run.facts)) > 100


KEPT = st.lists(st.integers(0, 50) | st.integers(0, 2**45), min_size=1, max_size=60)


@given(KEPT, st.integers(1, 30), st.integers(0, 50) | st.integers(0, 2**45))
def test_the_horizon_is_the_least_that_frees_enough_and_the_order_of_rows_is_nothing_to_it(
    kept: list[int], wanted: int, clock_ms: int
) -> None:
    below = sorted(end for end in kept if end < clock_ms)
    meant = below[wanted - 1] + 1 if len(below) >= wanted else -1
    for order in (kept, kept[::-1]):
        assert horizon_of(np.array(order, np.int64), clock_ms, wanted, np.zeros(BINS, np.int64)) == meant


def test_what_a_row_is_kept_for_never_goes_back() -> None:
    oracle, kept = BoundedOracle(1.0, WINDOW_MS, LONG_ROWS), dict[int, int]()
    for event in LONG[:8000]:
        ask_oracle(oracle, [event])
        now = {key: kept_until(row) for key, row in oracle.rows.items()}
        assert all(kept.get(key, 0) <= end for key, end in now.items())
        kept = now
    assert oracle.evicted > 50
