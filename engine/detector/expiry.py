"""The expiry queue: a binary heap of (end, key) over row numbers, one entry per throttled row; and the list of changed rows.

Extending a throttle leaves its old end in the queue; the row is queued again when that end comes up. So the queue never has
more entries than there are rows, and releases come in order of (end, key), whatever the order of insertion: a restored
partition releases exactly as one that never stopped.
"""

from __future__ import annotations

from typing import Any

from engine.detector.layout import DIRTY, STORED, THROTTLED
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64

BEFORE_ALL_MS = -(1 << 62)  # earlier than any event time


@inline
def _is_before(state: Any, a: int, b: int) -> bool:
    if state.queue_ms[a] != state.queue_ms[b]:
        return bool(state.queue_ms[a] < state.queue_ms[b])
    return bool(state.rows[state.queue[a]].key < state.rows[state.queue[b]].key)


@inline
def _swap(state: Any, a: int, b: int) -> None:
    state.queue_ms[a], state.queue_ms[b] = state.queue_ms[b], state.queue_ms[a]
    state.queue[a], state.queue[b] = state.queue[b], state.queue[a]


@inline
def _sift_up(state: Any, i: int) -> None:
    while i > 0 and _is_before(state, i, (i - 1) // 2):
        _swap(state, i, (i - 1) // 2)
        i = (i - 1) // 2


@inline
def push(state: Any, row: int, until_ms: int) -> None:
    """Queue a row, which must not be queued."""
    i = state.cursor[0].throttled
    state.cursor[0].throttled = i + 1
    state.queue[i] = row
    state.queue_ms[i] = until_ms
    _sift_up(state, i)


@inline
def pop(state: Any) -> int:
    """Remove and return the row with the earliest end. The queue must not be empty."""
    row = int64(state.queue[0])
    size = state.cursor[0].throttled - 1
    state.cursor[0].throttled = size
    state.queue[0], state.queue_ms[0] = state.queue[size], state.queue_ms[size]
    i = 0
    while True:
        least = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < size and _is_before(state, child, least):
                least = child
        if least == i:
            return row
        _swap(state, i, least)
        i = least


@inline
def remove(state: Any, row: int) -> None:
    """Remove a queued row from any position. O(n), as withdrawals are rare."""
    i = 0
    while state.queue[i] != row:
        i += 1
    state.queue_ms[i] = BEFORE_ALL_MS
    _sift_up(state, i)
    pop(state)


@inline
def mark_dirty(state: Any, number: int) -> None:
    """Add a row to those that the next checkpoint writes."""
    if not state.rows[number].flags & DIRTY:
        state.rows[number].flags |= DIRTY
        state.dirty[state.cursor[0].dirty] = number
        state.cursor[0].dirty += 1


@kernel
def drain_dirty(state: Any, numbers: Any) -> int:
    """Move the numbers of the changed rows to `numbers` (uint32) and flag those rows as stored. Return how many."""
    count = state.cursor[0].dirty
    state.cursor[0].dirty = 0
    for i in range(count):
        numbers[i] = state.dirty[i]
        state.rows[numbers[i]].flags = (state.rows[numbers[i]].flags & ~DIRTY) | STORED
    return int64(count)


@kernel
def rebuild_queue(state: Any) -> None:
    """Rebuild the queue and the list of changed rows from the rows' flags."""
    state.cursor[0].throttled = 0
    state.cursor[0].dirty = 0
    for number in range(state.cursor[0].rows):
        row = state.rows[number]
        if row.flags & THROTTLED:
            push(state, number, row.until_ms)
        if row.flags & DIRTY:
            state.dirty[state.cursor[0].dirty] = number
            state.cursor[0].dirty += 1
