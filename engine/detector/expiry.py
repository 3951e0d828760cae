"""The queue of lapsing throttles: a binary heap of (end, key) over row numbers, one entry a throttled row.

A throttle that was extended leaves its old end in the queue and is put back when that comes up. So the queue never holds
more entries than there are rows, and the order of releases is that of (end, key), whatever the order of insertion: a
restored partition releases exactly as the one that never stopped.
"""

from __future__ import annotations

from typing import Any

from engine.detector.layout import DIRTY, STORED, WAITING
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64

NEVER_MS = -(1 << 62)  # before all times


@inline
def _before(state: Any, a: int, b: int) -> bool:
    if state.queue_ms[a] != state.queue_ms[b]:
        return bool(state.queue_ms[a] < state.queue_ms[b])
    return bool(state.rows[state.queue[a]].key < state.rows[state.queue[b]].key)


@inline
def _swap(state: Any, a: int, b: int) -> None:
    state.queue_ms[a], state.queue_ms[b] = state.queue_ms[b], state.queue_ms[a]
    state.queue[a], state.queue[b] = state.queue[b], state.queue[a]


@inline
def _rise(state: Any, i: int) -> None:
    while i > 0 and _before(state, i, (i - 1) // 2):
        _swap(state, i, (i - 1) // 2)
        i = (i - 1) // 2


@inline
def push(state: Any, row: int, until_ms: int) -> None:
    """Queue a row that isn't queued yet."""
    i = state.cursor[0].waiting
    state.cursor[0].waiting = i + 1
    state.queue[i] = row
    state.queue_ms[i] = until_ms
    _rise(state, i)


@inline
def pop(state: Any) -> int:
    """Take the row with the earliest end off the queue, which must not be empty."""
    row = int64(state.queue[0])
    size = state.cursor[0].waiting - 1
    state.cursor[0].waiting = size
    state.queue[0], state.queue_ms[0] = state.queue[size], state.queue_ms[size]
    i = 0
    while True:
        least = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < size and _before(state, child, least):
                least = child
        if least == i:
            return row
        _swap(state, i, least)
        i = least


@inline
def withdraw(state: Any, row: int) -> None:
    """Take a queued row off the queue, wherever in it. It is looked for: rare."""
    i = 0
    while state.queue[i] != row:
        i += 1
    state.queue_ms[i] = NEVER_MS
    _rise(state, i)
    pop(state)


@inline
def mark(state: Any, number: int) -> None:
    """Note a row for the next checkpoint."""
    if not state.rows[number].flags & DIRTY:
        state.rows[number].flags |= DIRTY
        state.dirty[state.cursor[0].dirty] = number
        state.cursor[0].dirty += 1


@kernel
def requeue(state: Any) -> None:
    """Build the queue and the list of changed rows again, by what the rows' flags say."""
    state.cursor[0].waiting = 0
    state.cursor[0].dirty = 0
    for number in range(state.cursor[0].rows):
        row = state.rows[number]
        if row.flags & WAITING:
            push(state, number, row.until_ms)
        if row.flags & DIRTY:
            state.dirty[state.cursor[0].dirty] = number
            state.cursor[0].dirty += 1


@kernel
def take_dirty(state: Any, numbers: Any) -> int:
    """Move the numbers of the changed rows to ``numbers`` (uint32), take them as unchanged and stored; how many."""
    count = state.cursor[0].dirty
    state.cursor[0].dirty = 0
    for i in range(count):
        numbers[i] = state.dirty[i]
        state.rows[numbers[i]].flags = (state.rows[numbers[i]].flags & ~DIRTY) | STORED
    return int64(count)
