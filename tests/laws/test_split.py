"""The first law: state and verdicts are a function of the events in offset order, not of blocks, restarts or repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runs import Run, fresh, state_of, verdicts_from
from tests.support.sequences import (
    CUTS,
    DAY_MS,
    HOUR_MS,
    IPV4_TAG,
    START_MS,
    Event,
    columns_of,
    rich_sequence,
    sequences,
    snowshoe_sequence,
    spans,
)
from topics.columns.scan import ACCEPTED, POISON, READY, EventColumns

LONG = rich_sequence(7, 6000)


def whole(columns: EventColumns) -> Run:
    """Return a run that has applied all events in one block."""
    run = Run()
    run.apply(columns)
    return run


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.sets(st.integers(0, 79)))
def test_result_does_not_depend_on_blocks(events: list[Event], cuts: list[int], poison: set[int]) -> None:
    status = [POISON if i in poison else READY for i in range(len(events))]
    columns, called, blocks = columns_of(events, status), Run(), Run()

    for first, last in spans(cuts, len(events)):
        called.apply(columns, first, last)
        blocks.apply(columns_of(events[first:last], status[first:last]))

    assert called.result() == blocks.result() == whole(columns).result()


@pytest.mark.parametrize("room", [1, 2, 7])
def test_long_history_does_not_depend_on_the_verdict_buffer(room: int) -> None:
    small, roomy = Run(fresh(room=room, rows=4096)), Run(fresh(rows=4096))

    small.apply(columns_of(LONG))
    roomy.apply(columns_of(LONG))

    assert small.result() == roomy.result()
    assert len(verdicts_from(roomy.facts)) > 50


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(1, 3))
def test_result_does_not_depend_on_verdict_buffer_and_blocks(events: list[Event], cuts: list[int], room: int) -> None:
    columns, small = columns_of(events), Run(fresh(room=room))

    for first, last in spans(cuts, len(events)):
        small.apply(columns, first, last)

    assert small.result() == whole(columns).result()


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(1, 40))
def test_events_delivered_again_are_skipped(events: list[Event], cuts: list[int], overlap: int) -> None:
    columns, again = columns_of(events), Run()

    for first, last in spans(cuts, len(events)):
        again.apply(columns, max(0, first - overlap), last)
        again.apply(columns, first, last)

    assert again.result() == whole(columns).result()


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(0, 80))
def test_result_does_not_depend_on_checkpoints_and_restarts(events: list[Event], cuts: list[int], lost: int) -> None:
    """Some checkpoints are followed by a restart; `lost` events after the last one are applied, lost and read again."""
    columns, run = columns_of(events), Run()

    for number, (first, last) in enumerate(spans(cuts, len(events))):
        run.apply(columns, first, last)
        run.checkpoint()
        if number % 2 == 0:
            kept = run.facts
            run.apply(columns, last, min(last + lost, len(events)))
            run.facts = kept
            run.restart()

    assert run.result() == whole(columns).result()


def test_long_history_does_not_depend_on_restarts() -> None:
    columns, run, straight = columns_of(LONG), Run(fresh(rows=4096)), Run(fresh(rows=4096))
    straight.apply(columns)

    for number, first in enumerate(range(0, len(LONG), 500)):
        run.apply(columns, first, first + 500)
        run.checkpoint()
        if number % 3 == 2:
            run.restart()

    assert run.result() == straight.result()


@pytest.mark.parametrize("rows", [1024, 2048])
def test_snowshoe_does_not_depend_on_restarts_and_recycled_pools(rows: int) -> None:
    events = snowshoe_sequence(5, 4000)
    columns, run, straight = columns_of(events), Run(fresh(rows=rows)), Run(fresh(rows=rows))
    straight.apply(columns)

    for number, first in enumerate(range(0, len(events), 250)):
        run.apply(columns, first, first + 250)
        run.checkpoint()
        if number % 2:
            run.restart()

    assert run.result() == straight.result()
    assert np.count_nonzero(verdicts_from(run.facts)["pool"]) > 100


def test_releases_of_extended_throttles_come_in_order_of_their_ends() -> None:
    early, late = IPV4_TAG + 1, IPV4_TAG + 2
    events = [
        Event(0, START_MS, -1, early, 60, ACCEPTED),
        Event(1, START_MS + HOUR_MS // 2, -1, late, 60, ACCEPTED),
        Event(2, START_MS + HOUR_MS * 3 // 4, -1, early, 40, ACCEPTED),
        Event(3, START_MS + DAY_MS, -1, 0, 1, ACCEPTED),
    ]

    run = whole(columns_of(events))

    ends = [
        (int(verdict["until_ms"]), int(verdict["key"])) for verdict in verdicts_from(run.facts) if verdict["kind"] == 2
    ]
    assert ends == sorted(ends)
    assert [key for _, key in ends] == [late, early]


def test_skipped_offsets_count_as_applied() -> None:
    partition = fresh()

    partition.skip_to(9, 2)
    partition.apply(columns_of([Event(9, START_MS, -1, 1, 1, ACCEPTED)]), 0, 1)
    partition.skip_to(4, 1)

    assert (partition.applied_offset, partition.keys, int(partition.state.site["poison"][0])) == (9, 0, 3)
    assert state_of(partition)[0] == b""
