"""Bounded memory: the compiled partition against `tests.oracles.bounded`, and the first law with small tables.

The tables are so small that newcomers wait, rows are evicted and prefixes are throttled.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.eviction import HORIZON_BINS
from engine.detector.layout import PASSED
from engine.detector.throttle import Policy
from engine.state.partition import Partition
from tests.oracles.bounded import BoundedOracle, retain_until
from tests.oracles.verdicts import Verdict
from tests.support.floods import flood_sequence, flooded_sequences
from tests.support.kernels import horizon_of
from tests.support.runs import Run, fresh, rows_of, verdicts_from
from tests.support.sequences import WINDOW_MS, Event, columns_of
from tests.support.twins import compare_row, compare_verdicts, is_same, verdicts_of

ROWS = st.sampled_from([16, 32])
THRESHOLDS = st.sampled_from([1.0, 0.2, 0.05])
LONG = flood_sequence(3, 30_000)
LONG_ROWS = 64


def compare_bounded(partition: Partition, oracle: BoundedOracle) -> None:
    """Assert that rows, admission filter, prefixes and the site's counts of them are equal."""
    rows, site, state = rows_of(partition), partition.state.site[0], partition.state
    assert rows["key"].tolist() == sorted(oracle.rows)
    for row in rows:
        compare_row(row, oracle.rows[int(row["key"])])
        assert bool(row["flags"] & PASSED) == oracle.rows[int(row["key"])].passes
    counts = [int(site[name]) for name in ("untracked", "evicted", "eviction_horizon_ms", "eviction_retry_ms")]
    assert counts == [oracle.untracked, oracle.evicted, oracle.horizon_ms, oracle.retry_ms]
    assert int(state.admission_filter["keys"][0]) == oracle.admission_filter.keys
    bits = np.unpackbits(state.admission_filter["bits"][0].view(np.uint8), bitorder="little")
    assert set(np.flatnonzero(bits).tolist()) == oracle.admission_filter.bits
    used = {
        (rank, line): state.prefixes[rank, line]
        for rank, line in zip(*np.nonzero(state.prefixes["last_ms"].any(2)), strict=True)
    }
    expected = {at: slots for at, slots in oracle.prefixes.sets.items() if any(slot.last_ms for slot in slots)}
    assert expected.keys() == used.keys()
    for (rank, line), ours in used.items():
        theirs = oracle.prefixes.sets[int(rank), int(line)]
        for name in ("key", "last_ms", "until_ms"):
            assert ours[name].tolist() == [getattr(slot, name) for slot in theirs], name
        assert is_same(ours["demand"], [slot.demand for slot in theirs])
        assert is_same(ours["rate_per_h"], [slot.rate_per_h for slot in theirs])


def run_twins(events: list[Event], threshold: float, rows: int) -> tuple[BoundedOracle, list[Verdict]]:
    """Return the oracle and its verdicts, after comparing the compiled partition with it."""
    partition = fresh(Policy(threshold, WINDOW_MS, 0, 1), rows=rows)
    oracle = BoundedOracle(threshold, WINDOW_MS, rows)
    ours, theirs = partition.apply(columns_of(events), 0, len(events)), verdicts_of(oracle, events)
    compare_verdicts(ours, theirs)
    compare_bounded(partition, oracle)
    return oracle, theirs


@settings(max_examples=2 * settings().max_examples)
@given(flooded_sequences(), THRESHOLDS, ROWS)
def test_small_partition_equals_its_oracle(events: list[Event], threshold: float, rows: int) -> None:
    run_twins(events, threshold, rows)


LEAST = {
    "throttle": 100, "release": 100, "prefix 24": 3, "prefix 16": 3, "prefix 56": 3, "prefix 48": 3, "prefix 32": 3,
    "prefix again": 5, "passed": 20, "passed again": 1, "evicted": 200, "sweeps postponed": 1, "untracked": 5000,
}  # fmt: skip


def reached(seed: int, threshold: float, rows: int) -> Counter[str]:
    """Count how often a long flood reached each branch of bounded memory, after comparing it with the oracle."""
    oracle, verdicts = run_twins(flood_sequence(seed, 30_000), threshold, rows)
    found, until_ms = Counter[str](), dict[tuple[int, int], int]()
    for verdict in verdicts:
        network = verdict.key, verdict.prefix
        kind = f"prefix {verdict.prefix}" if verdict.prefix else "passed" if verdict.within else ""
        live = until_ms.get(network, 0) > verdict.issued_ms
        found[verdict.kind] += 1
        found[kind] += verdict.kind == "throttle"
        found[f"{kind.split(' ', 1)[0]} again"] += verdict.kind == "throttle" and live
        until_ms[network] = verdict.until_ms
    found["evicted"], found["untracked"] = oracle.evicted, oracle.untracked
    found["sweeps postponed"] = oracle.retry_ms > 0
    return found


def test_long_flood_reaches_every_branch_and_equals_the_oracle() -> None:
    found = reached(3, 1.0, LONG_ROWS) + reached(9, 0.3, 32)

    assert {name: found[name] for name, least in LEAST.items() if found[name] < least} == {}


def whole(events: list[Event], rows: int) -> Run:
    """Return a run that has applied all events in one block."""
    run = Run(fresh(Policy(0.2, WINDOW_MS, 0, 1), rows=rows))
    run.apply(columns_of(events))
    return run


@given(flooded_sequences(), st.lists(st.integers(0, 120), max_size=6), ROWS, st.integers(1, 3))
def test_full_table_does_not_depend_on_blocks(events: list[Event], cuts: list[int], rows: int, room: int) -> None:
    columns, small = columns_of(events), Run(fresh(Policy(0.2, WINDOW_MS, 0, 1), rows=rows, room=room))
    edges = sorted([0, len(events), *(min(cut, len(events)) for cut in cuts)])

    for first, last in pairwise(edges):
        small.apply(columns, max(0, first - 5), last)

    assert small.result() == whole(events, rows).result()


@given(flooded_sequences(), st.lists(st.integers(0, 120), max_size=6), ROWS, st.integers(0, 40))
def test_full_table_does_not_depend_on_restarts(events: list[Event], cuts: list[int], rows: int, lost: int) -> None:
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
def test_long_flood_does_not_depend_on_restarts(each: int, restarts: int) -> None:
    columns, run = columns_of(LONG), Run(fresh(rows=LONG_ROWS))
    straight = Run(fresh(rows=LONG_ROWS))
    straight.apply(columns)

    for number, first in enumerate(range(0, len(LONG), each)):
        run.apply(columns, first, first + each)
        run.checkpoint()
        if (number + 1) % restarts == 0:
            run.restart()

    assert run.result() == straight.result()
    assert len(verdicts_from(run.facts)) > 100


RETAINED = st.lists(st.integers(0, 50) | st.integers(0, 2**45), min_size=1, max_size=60)


@given(RETAINED, st.integers(1, 30), st.integers(0, 50) | st.integers(0, 2**45))
def test_horizon_is_the_least_that_frees_enough_rows_in_any_order(
    retained: list[int], wanted: int, clock_ms: int
) -> None:
    below = sorted(end for end in retained if end < clock_ms)
    expected = below[wanted - 1] + 1 if len(below) >= wanted else -1

    for order in (retained, retained[::-1]):
        assert horizon_of(np.array(order, np.int64), clock_ms, wanted, np.zeros(HORIZON_BINS, np.int64)) == expected


def test_retention_of_a_row_never_decreases() -> None:
    oracle, retained = BoundedOracle(1.0, WINDOW_MS, LONG_ROWS), dict[int, int]()

    for event in LONG[:8000]:
        verdicts_of(oracle, [event])
        now = {key: retain_until(row) for key, row in oracle.rows.items()}
        assert all(retained.get(key, 0) <= end for key, end in now.items())
        retained = now

    assert oracle.evicted > 50
