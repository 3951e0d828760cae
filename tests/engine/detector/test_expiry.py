from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.detector.expiry import requeue, take_dirty
from engine.detector.layout import DIRTY, STORED, WAITING, State, empty_state
from tests.support.kernels import pop_one, push_one, withdraw_one

ENDS = st.lists(
    st.tuples(st.integers(1, 5) | st.integers(1, 2**60), st.integers(0, 2**64 - 1)), max_size=40, unique=True
)


def with_rows(ends: list[tuple[int, int]]) -> State:
    """A row for every (end, key)."""
    state = empty_state(1024)
    state.cursor["rows"] = len(ends)
    state.rows["until_ms"][: len(ends)] = [end for end, _ in ends]
    state.rows["key"][: len(ends)] = np.array([key for _, key in ends], np.uint64)
    return state


def drained(state: State) -> list[tuple[int, int]]:
    """The queue's (end, key) in the order in which they come."""
    found = []
    while state.cursor["waiting"][0]:
        end = int(state.queue_ms[0])
        found.append((end, int(state.rows["key"][pop_one(state)])))
    return found


@given(ENDS)
def test_throttles_lapse_by_end_and_then_by_key(ends: list[tuple[int, int]]) -> None:
    state = with_rows(ends)
    for number, (end, _) in enumerate(ends):
        push_one(state, number, end)
    assert drained(state) == sorted(ends)


@given(ENDS, st.data())
def test_the_earliest_comes_first_whatever_came_and_went_before(
    ends: list[tuple[int, int]], data: st.DataObject
) -> None:
    state, waiting = with_rows(ends), list[tuple[int, int]]()
    for number, end in enumerate(ends):
        push_one(state, number, end[0])
        waiting.append(end)
        if data.draw(st.booleans()):
            waiting.sort()
            assert (int(state.queue_ms[0]), int(state.rows["key"][pop_one(state)])) == waiting.pop(0)
    assert drained(state) == sorted(waiting)


@given(ENDS, st.sets(st.integers(0, 39)))
def test_what_is_withdrawn_is_gone_and_the_rest_keeps_its_order(ends: list[tuple[int, int]], gone: set[int]) -> None:
    state = with_rows(ends)
    for number, (end, _) in enumerate(ends):
        push_one(state, number, end)
    for number in gone:
        if number < len(ends):
            withdraw_one(state, number)
    assert drained(state) == sorted(end for number, end in enumerate(ends) if number not in gone)


@given(ENDS, st.sets(st.integers(0, 39)))
def test_a_queue_and_a_list_of_changes_are_made_again_from_the_rows_flags(
    ends: list[tuple[int, int]], free: set[int]
) -> None:
    state = with_rows(ends)
    state.rows["flags"] = WAITING
    state.rows["flags"][list(free)] = DIRTY
    state.cursor["waiting"], state.cursor["dirty"] = 7, 7
    requeue(state)
    changed = [number for number in range(len(ends)) if number in free]
    assert state.dirty[: int(state.cursor["dirty"][0])].tolist() == changed
    assert drained(state) == sorted(end for number, end in enumerate(ends) if number not in free)


def test_changed_rows_are_handed_over_once() -> None:
    state = with_rows([(1, 1), (2, 2), (3, 3)])
    state.dirty[:2], state.cursor["dirty"] = (2, 0), 2
    state.rows["flags"][[0, 2]] = DIRTY | WAITING
    numbers = np.zeros(2, np.uint32)
    assert take_dirty(state, numbers) == 2
    assert (numbers.tolist(), state.rows["flags"][:3].tolist()) == ([2, 0], [WAITING | STORED, 0, WAITING | STORED])
    assert take_dirty(state, numbers) == 0
