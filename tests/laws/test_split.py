"""The first law: state and verdicts are a function of the events in offset order; how they arrive changes nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runs import Run, fresh, state_of, verdicts_from
from tests.support.sequences import (
    DAY_MS,
    HOUR_MS,
    IPV4_TAG,
    START_MS,
    Event,
    columns_of,
    crowd_sequence,
    rich_sequence,
    sequences,
)
from topics.columns.scan import ACCEPTED, POISON, READY, EventColumns

LONG = rich_sequence(7, 6000)
CUTS = st.lists(st.integers(0, 80), max_size=6)


def whole(columns: EventColumns) -> Run:
    run = Run()
    run.apply(columns)
    return run


def spans(cuts: list[int], size: int) -> list[tuple[int, int]]:
    """Neighbouring spans of ``size`` events, cut at ``cuts``; some may be empty."""
    return list(pairwise(sorted([0, size, *(min(cut, size) for cut in cuts)])))


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.sets(st.integers(0, 79)))
def test_blocks_may_be_cut_anywhere(events: list[Event], cuts: list[int], poison: set[int]) -> None:
    status = [POISON if i in poison else READY for i in range(len(events))]
    columns, called, blocks = columns_of(events, status), Run(), Run()
    for first, last in spans(cuts, len(events)):
        called.apply(columns, first, last)
        blocks.apply(columns_of(events[first:last], status[first:last]))
    assert called.result() == blocks.result() == whole(columns).result()


@pytest.mark.parametrize("room", [1, 2, 7])
def test_a_small_verdict_buffer_only_means_more_calls(room: int) -> None:
    small = Run(fresh(room=room, rows=4096))
    small.apply(columns_of(LONG))
    roomy = Run(fresh(rows=4096))
    roomy.apply(columns_of(LONG))
    assert small.result() == roomy.result()
    assert len(verdicts_from(roomy.facts)) > 50


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(1, 3))
def test_a_small_verdict_buffer_changes_nothing_wherever_a_block_ends(
    events: list[Event], cuts: list[int], room: int
) -> None:
    columns, small = columns_of(events), Run(fresh(room=room))
    for first, last in spans(cuts, len(events)):
        small.apply(columns, first, last)
    assert small.result() == whole(columns).result()


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(1, 40))
def test_what_was_applied_before_is_skipped_when_it_is_delivered_again(
    events: list[Event], cuts: list[int], overlap: int
) -> None:
    columns, again = columns_of(events), Run()
    for first, last in spans(cuts, len(events)):
        again.apply(columns, max(0, first - overlap), last)
        again.apply(columns, first, last)
    assert again.result() == whole(columns).result()


@settings(max_examples=2 * settings().max_examples)
@given(sequences(), CUTS, st.integers(0, 80))
def test_a_checkpoint_and_a_restart_change_nothing(events: list[Event], cuts: list[int], lost: int) -> None:
    """Some checkpoints are followed by a restart; ``lost`` events after the last one are applied, forgotten, read again."""
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


def test_a_long_history_survives_many_restarts() -> None:
    columns, run = columns_of(LONG), Run(fresh(rows=4096))
    for number, first in enumerate(range(0, len(LONG), 500)):
        run.apply(columns, first, first + 500)
        run.checkpoint()
        if number % 3 == 2:
            run.restart()
    straight = Run(fresh(rows=4096))
    straight.apply(columns)
    assert run.result() == straight.result()


@pytest.mark.parametrize("rows", [1024, 2048])
def test_crowds_survive_restarts_and_the_recycling_of_their_pools(rows: int) -> None:
    events = crowd_sequence(5, 4000)
    columns, run, straight = columns_of(events), Run(fresh(rows=rows)), Run(fresh(rows=rows))
    for number, first in enumerate(range(0, len(events), 250)):
        run.apply(columns, first, first + 250)
        run.checkpoint()
        if number % 2:
            run.restart()
    straight.apply(columns)
    assert run.result() == straight.result()
    assert np.count_nonzero(verdicts_from(run.facts)["pool"]) > 100


def test_releases_come_in_the_order_of_their_ends_however_often_a_throttle_was_extended() -> None:
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


def test_offsets_passed_over_count_as_applied() -> None:
    partition = fresh()
    partition.pass_over(9, 2)
    partition.apply(columns_of([Event(9, START_MS, -1, 1, 1, ACCEPTED)]), 0, 1)
    partition.pass_over(4, 1)
    assert (partition.applied_offset, partition.keys, int(partition.state.site["poison"][0])) == (9, 0, 3)
    assert state_of(partition)[0] == b""
