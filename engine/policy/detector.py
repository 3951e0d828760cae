"""The loop: a block of events, one after the other, through a partition's state to verdicts.

First law: the state and the verdicts are a function of the events in offset order; blocks, batches and speed change
nothing. The loop works through short runs of events: first every event's row is looked up, places and rows fetched ahead
(a row is a cache miss in any table worth having: 1.6 times the rate), then the events are applied one by one. A full
verdict buffer ends the call early; the caller empties it and goes on from where it stopped.
"""

from __future__ import annotations

import math
from typing import Any

from engine.models.cohort import enter, grow
from engine.models.constants import DAY_MS, NEWCOMER_MS, TYPICAL_WEIGHT_FIRST
from engine.models.counters import count
from engine.models.days import close_day
from engine.models.layout import COUNTED, DIRTY, WAITING
from engine.models.table import NO_ROW, fetch_place, fetch_row, find, hash_key, insert
from engine.policy.lapse import pop, push
from engine.policy.throttle import RELEASE, exceeded_scales, throttle, write_throttle
from topics.columns.jit import inline, kernel
from topics.columns.keys import partition_of_key
from topics.columns.memory import int64
from topics.columns.scan import DEFERRED, READY

RUN = 32


@inline
def _mark(state: Any, number: int) -> None:
    """Note a row for the next checkpoint."""
    if not state.rows[number].flags & DIRTY:
        state.rows[number].flags |= DIRTY
        state.dirty[state.cursor[0].dirty] = number
        state.cursor[0].dirty += 1


@inline
def _event_time(columns: Any, i: int, window_ms: int) -> int:
    """The event's stamp, or its record's when the two are further apart than the window."""
    stamp, record_ms = columns.ts_ms[i], columns.record_ms[i]
    if record_ms >= 0 and abs(stamp - record_ms) > window_ms:
        return int64(record_ms)
    return int64(stamp)


@inline
def _release(state: Any, verdicts: Any, n: int, offset: int, event: int) -> int:
    """Release what has lapsed by the partition's clock, as far as ``verdicts`` has room; the number of verdicts."""
    site = state.site[0]
    while state.cursor[0].waiting > 0 and state.queue_ms[0] <= site.clock_ms and n < verdicts.shape[0]:
        queued_ms = state.queue_ms[0]
        number = pop(state)
        row = state.rows[number]
        if row.until_ms != queued_ms:
            push(state, number, row.until_ms)
            continue
        verdict = verdicts[n]
        verdict.kind, verdict.key, verdict.event, verdict.offset = RELEASE, row.key, event, offset
        verdict.issued_ms, verdict.until_ms = site.clock_ms, row.until_ms
        row.flags &= ~WAITING
        _mark(state, number)
        site.releases += 1
        n += 1
    return n


@inline
def _welcome(state: Any, key: Any, t_ms: int, seed: Any, policy: Any, scratch: Any) -> int:
    """A row for a key that has none: its number, or NO_ROW when the table is full."""
    number = insert(state, key, hash_key(key, seed))
    site = state.site[0]
    if number == NO_ROW:
        site.untracked += 1
        return NO_ROW
    row = state.rows[number]
    row.last_ms = t_ms
    row.first_seen_s = t_ms // 1000
    row.day = t_ms // DAY_MS
    row.typical = math.log(1.0 + site.q50)
    row.weight = TYPICAL_WEIGHT_FIRST
    enter(site, row, t_ms)
    if partition_of_key(key, policy.partitions, scratch) != policy.partition:
        site.miskeyed += 1
    return number


@inline
def _judge(state: Any, number: int, t_ms: int, messages: int, outcome: int, policy: Any) -> int:
    """Count an event on its row; the exceeded scales if a decision has to be published, else 0."""
    row, site = state.rows[number], state.site[0]
    today = t_ms // DAY_MS
    if today > row.day:
        close_day(row, site, today)
    count(row, t_ms, messages, outcome)
    if row.flags & COUNTED and t_ms - int64(row.first_seen_s) * 1000 < NEWCOMER_MS and row.rejected <= row.accepted:
        grow(site, row)
    _mark(state, number)
    if outcome == DEFERRED:
        return 0
    exceeded = exceeded_scales(row, site, policy.threshold)
    if exceeded and throttle(state, number, t_ms, exceeded, policy):
        return exceeded
    return 0


@inline
def _look_up(columns: Any, first: int, last: int, state: Any, room: Any) -> None:
    """Set ``numbers[i - first]`` to the row of event i, NO_ROW without one, and have the rows in the cache."""
    _, numbers, hashes, _, seed = room
    for i in range(first, last):
        hashes[i - first] = hash_key(columns.key[i], seed)
        fetch_place(state, hashes[i - first])
    for i in range(last - first):
        fetch_row(state, hashes[i])
    for i in range(first, last):
        numbers[i - first] = find(state, columns.key[i], hashes[i - first])


@kernel
def detect(columns: Any, span: Any, state: Any, policy: Any, room: Any) -> Any:
    """Apply events ``span[0]`` to ``span[1]`` of ``columns``; gives (events done, verdicts written).

    ``room``: (verdicts: VERDICT[], numbers: int64[RUN], hashes: uint64[RUN], scratch: uint8[], seed: uint64). Events that
    aren't READY, or at or below the applied offset, are passed over (the offset still counts as applied)."""
    verdicts, numbers, _, scratch, seed = room
    site, n, i = state.site[0], 0, span[0]
    while i < span[1]:
        run_end = min(i + RUN, span[1])
        _look_up(columns, i, run_end, state, room)
        first = i
        while i < run_end:
            offset = columns.offset[i]
            if offset <= site.applied_offset or columns.status[i] != READY:
                site.applied_offset = max(site.applied_offset, offset)
                i += 1
                continue
            stamp = _event_time(columns, i, policy.window_ms)
            if site.first_ms < 0:
                site.first_ms = stamp
            site.clock_ms = max(site.clock_ms, stamp)
            n = _release(state, verdicts, n, offset, i)
            if n == verdicts.shape[0]:
                return i, n
            number, key = numbers[i - first], columns.key[i]
            if number == NO_ROW:
                number = find(state, key, hash_key(key, seed))
            if number == NO_ROW:
                number = _welcome(state, key, stamp, seed, policy, scratch)
            if number != NO_ROW:
                exceeded = _judge(state, number, stamp, columns.messages[i], columns.outcome[i], policy)
                if exceeded:
                    verdict = verdicts[n]
                    verdict.event, verdict.offset, verdict.issued_ms = i, offset, stamp
                    write_throttle(verdict, state, number, exceeded, policy.threshold)
                    site.throttles += 1
                    n += 1
            site.applied_offset = offset
            site.events += 1
            site.late += stamp != columns.ts_ms[i]
            i += 1
    return i, n
