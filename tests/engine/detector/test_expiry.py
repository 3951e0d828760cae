"""The expiry queue and the list of changed rows, compared with sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.detector.expiry import drain_dirty, rebuild_queue
from engine.detector.layout import DIRTY, STORED, THROTTLED, State, empty_state
from tests.support.kernels import pop_one, push_one, remove_one

ENDS = st.lists(
    st.tuples(st.integers(1, 5) | st.integers(1, 2**60), st.integers(0, 2**64 - 1)), max_size=40, unique=True
)


def with_rows(ends: list[tuple[int, int]]) -> State:
    """Return a state with a row for every (end, key)."""
    state = empty_state(1024)
    state.cursor["rows"] = len(ends)
    state.rows["until_ms"][: len(ends)] = [end for end, _ in ends]
    state.rows["key"][: len(ends)] = np.array([key for _, key in ends], np.uint64)
    return state


def drained(state: State) -> list[tuple[int, int]]:
    """Empty the queue. Return its (end, key) in order."""
    order = []
    while state.cursor["throttled"][0]:
        end = int(state.queue_ms[0])
        order.append((end, int(state.rows["key"][pop_one(state)])))
    return order


@given(ENDS)
def test_throttles_expire_by_end_and_key(ends: list[tuple[int, int]]) -> None:
    state = with_rows(ends)

    for number, (end, _) in enumerate(ends):
        push_one(state, number, end)

    assert drained(state) == sorted(ends)


@given(ENDS, st.data())
def test_earliest_end_is_popped_first_after_any_pushes_and_pops(
    ends: list[tuple[int, int]], data: st.DataObject
) -> None:
    state, queued = with_rows(ends), list[tuple[int, int]]()

    for number, end in enumerate(ends):
        push_one(state, number, end[0])
        queued.append(end)
        if data.draw(st.booleans()):
            queued.sort()
            assert (int(state.queue_ms[0]), int(state.rows["key"][pop_one(state)])) == queued.pop(0)

    assert drained(state) == sorted(queued)


@given(ENDS, st.sets(st.integers(0, 39)))
def test_removed_rows_leave_the_order_of_the_others(ends: list[tuple[int, int]], removed: set[int]) -> None:
    state = with_rows(ends)
    for number, (end, _) in enumerate(ends):
        push_one(state, number, end)

    for number in removed:
        if number < len(ends):
            remove_one(state, number)

    assert drained(state) == sorted(end for number, end in enumerate(ends) if number not in removed)


@given(ENDS, st.sets(st.integers(0, 39)))
def test_queue_and_changed_rows_are_rebuilt_from_flags(ends: list[tuple[int, int]], free: set[int]) -> None:
    state = with_rows(ends)
    state.rows["flags"] = THROTTLED
    state.rows["flags"][list(free)] = DIRTY
    state.cursor["throttled"], state.cursor["dirty"] = 7, 7
    rebuild_queue(state)

    changed = [number for number in range(len(ends)) if number in free]

    assert state.dirty[: int(state.cursor["dirty"][0])].tolist() == changed
    assert drained(state) == sorted(end for number, end in enumerate(ends) if number not in free)


def test_drain_returns_changed_rows_once_and_flags_them_stored() -> None:
    state = with_rows([(1, 1), (2, 2), (3, 3)])
    state.dirty[:2], state.cursor["dirty"] = (2, 0), 2
    state.rows["flags"][[0, 2]] = DIRTY | THROTTLED

    numbers = np.zeros(2, np.uint32)

    assert drain_dirty(state, numbers) == 2
    assert (numbers.tolist(), state.rows["flags"][:3].tolist()) == ([2, 0], [THROTTLED | STORED, 0, THROTTLED | STORED])
    assert drain_dirty(state, numbers) == 0
