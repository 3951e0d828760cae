"""The loop: a block of events, one after the other, through a partition's state to verdicts.

First law: the state and the verdicts are a function of the events in offset order; blocks, batches and speed change
nothing. The loop works through short runs of events: first every event's row is looked up, places and rows fetched ahead
(a row is a cache miss in any table worth having: 1.6 times the rate), then the events are applied one by one. A full
verdict buffer, or a full table, ends the call early; the caller sees to it and goes on from where it stopped.
"""

from __future__ import annotations

from typing import Any

from engine.detector.admission import FULL, admit
from engine.detector.baseline import close_day
from engine.detector.breaker import rearm, take_back, watch
from engine.detector.budget import close_site_day, decides, demanded, open_site
from engine.detector.cohort import grow
from engine.detector.constants import DAY_MS, NEWCOMER_MS, PROBATION_DAYS, RELAY
from engine.detector.counters import count, stranger_demand
from engine.detector.expiry import mark, pop, push
from engine.detector.hash_table import NO_ROW, fetch_place, fetch_row, find, hash_key
from engine.detector.layout import COUNTED, PASSED, WAITING
from engine.detector.pool_rule import crowd, is_young
from engine.detector.pool_table import fetch_places, fetch_pool
from engine.detector.pools import pool_key
from engine.detector.prefixes import NO_RANK, count_stranger, lapse_prefix, let_pass, write_prefix
from engine.detector.throttle import exceeded_scales, throttle, write_throttle
from engine.detector.token_bucket import refill, spend
from engine.detector.verdict import RELEASE
from topics.columns.jit import inline, kernel
from topics.columns.memory import int64
from topics.columns.scan import ACCEPTED, DEFERRED, READY

RUN = 32


@inline
def _event_time(columns: Any, i: int, window_ms: int) -> int:
    """The event's stamp, or its record's when the two are further apart than the window."""
    stamp, record_ms = columns.ts_ms[i], columns.record_ms[i]
    if record_ms >= 0 and abs(stamp - record_ms) > window_ms:
        return int64(record_ms)
    return int64(stamp)


@inline
def _release(state: Any, verdicts: Any, n: int, offset: int, event: int) -> int:
    """Release what has lapsed by the partition's clock, keys before prefixes, as far as ``verdicts`` has room; the number
    of verdicts."""
    site = state.site[0]
    while state.cursor[0].waiting > 0 and state.queue_ms[0] <= site.clock_ms and n < verdicts.shape[0]:
        queued_ms = state.queue_ms[0]
        number = pop(state)
        row = state.rows[number]
        if row.until_ms != queued_ms:
            push(state, number, row.until_ms)
            continue
        verdict = verdicts[n]
        verdict.kind, verdict.key, verdict.prefix, verdict.until_ms = RELEASE, row.key, 0, row.until_ms
        verdict.event, verdict.offset, verdict.issued_ms = event, offset, site.clock_ms
        row.flags &= ~(WAITING | PASSED)
        mark(state, number)
        site.releases += 1
        n += 1
    while state.cursor[0].held > 0 and state.cursor[0].held_ms <= site.clock_ms and n < verdicts.shape[0]:
        if lapse_prefix(state, verdicts[n]):
            verdict = verdicts[n]
            verdict.event, verdict.offset, verdict.issued_ms = event, offset, site.clock_ms
            site.releases += 1
            n += 1
    return n


@inline
def _turn_clock(site: Any, t_ms: int, policy: Any) -> None:
    """Set the site's clock forward to ``t_ms``, over the end of its day."""
    if site.first_ms < 0:
        open_site(site, t_ms, policy.learning_ms)
    site.clock_ms = max(site.clock_ms, t_ms)
    today = site.clock_ms // DAY_MS
    if today > site.day:
        close_site_day(site, today, policy.threshold, policy.learning_ms)
    if site.rearm_ms > 0:
        rearm(site, policy.guard)


@inline
def _teaches(row: Any, site: Any, t_ms: int) -> bool:
    """Whether the cohort learns from a row: a counted newcomer's first day, since the site has its scale."""
    age_ms = t_ms - int64(row.first_seen_s) * 1000
    fresh = row.flags & COUNTED != 0 and age_ms < NEWCOMER_MS and int64(row.first_seen_s) >= site.stretched_s
    return bool(fresh and row.rejected <= row.accepted)


@inline
def _judge(state: Any, number: int, event: Any, policy: Any) -> Any:
    """Count an event on its row and in its pools; whether a decision has to be published, and the alarm."""
    t_ms, messages, outcome, offset, new_keys, guesses = event
    row, site = state.rows[number], state.site[0]
    today = t_ms // DAY_MS
    if today > row.day:
        close_day(row, site, today)
    elapsed_ms = t_ms - row.last_ms
    amount = count(row, t_ms, messages, outcome)
    if row.until_ms > t_ms:
        refill(row, elapsed_ms)
    if _teaches(row, site, t_ms):
        grow(site, row)
    mark(state, number)
    pool = NO_ROW
    if is_young(row, t_ms) and (amount > 0.0 or new_keys):
        pool = crowd(state, row, (t_ms, offset, amount, new_keys, guesses), policy)
    alarm, speaks = (0, pool), False
    if outcome != DEFERRED:
        alarm = exceeded_scales(row, site, policy.threshold * site.lean), pool
        speaks = (alarm[0] != 0 or pool != NO_ROW) and throttle(state, number, t_ms, alarm, policy)
        if outcome == ACCEPTED:
            demanded(row, site, messages)
            if row.active_days > PROBATION_DAYS and policy.guard > 0.0:
                free = row.flags & (WAITING | PASSED) != WAITING
                watch(site, t_ms - elapsed_ms, free, alarm[0] != 0, policy.guard)
    if row.until_ms > t_ms:
        site.day_held += spend(row, messages, outcome)
    if speaks and pool != NO_ROW:
        site.pool_throttles += 1.0
    return speaks, alarm


@inline
def _known(state: Any, verdict: Any, number: int, event: Any, policy: Any) -> bool:
    """An event, (time, messages, outcome, offset, 1 if it is its key's first, guesses at its pools), of a key with a row;
    whether it led to a verdict, which is written then."""
    t_ms = event[0]
    speaks, alarm = _judge(state, number, event, policy)
    if speaks:
        write_throttle(verdict, state, number, alarm, policy.threshold * state.site[0].lean)
        return True
    if state.cursor[0].held > 0:
        within = let_pass(state, number, t_ms, policy.threshold)
        if within > 0:
            write_throttle(verdict, state, number, (0, NO_ROW), policy.threshold)
            verdict.within = within
            return True
    return False


@inline
def _stranger(state: Any, verdict: Any, key: Any, event: Any, policy: Any) -> bool:
    """An event, (time, demand), of a key that has to do without a row; whether it led to a verdict."""
    state.site[0].untracked += 1
    if not decides(state.site[0], policy):
        return False
    threshold = policy.threshold
    rank = count_stranger(state, key, event[0], event[1], threshold)
    if rank == NO_RANK:
        return False
    write_prefix(verdict, state, key, rank, threshold)
    return True


@inline
def _look_up(columns: Any, first: int, last: int, state: Any, room: Any) -> None:
    """Set ``numbers[i - first]`` to the row of event i, NO_ROW without one, and have the rows in the cache, and those of
    young keys' pools."""
    _, numbers, hashes, pools, _, seed = room
    for i in range(first, last):
        hashes[i - first] = hash_key(columns.key[i], seed)
        fetch_place(state, hashes[i - first])
    for i in range(last - first):
        fetch_row(state, hashes[i])
    for i in range(first, last):
        number = find(state, columns.key[i], hashes[i - first])
        numbers[i - first] = number
        if number == NO_ROW or is_young(state.rows[number], columns.ts_ms[i]):
            for level in range(RELAY):
                pools[i - first, level] = fetch_places(state.pools, pool_key(columns.key[i], level))
    for i in range(first, last):
        number = numbers[i - first]
        if number == NO_ROW or is_young(state.rows[number], columns.ts_ms[i]):
            for level in range(RELAY):
                key = pool_key(columns.key[i], level)
                pools[i - first, level] = fetch_pool(state.pools, pools[i - first, level], key)


@kernel
def detect(columns: Any, span: Any, state: Any, policy: Any, room: Any) -> Any:
    """Apply events ``span[0]`` to ``span[1]`` of ``columns``; gives (events done, verdicts written, whether the table is to
    be swept before the next event).

    ``room``: (verdicts: VERDICT[], numbers: int64[RUN], hashes: uint64[RUN], pools: int64[RUN, 2], scratch: uint8[],
    seed: uint64). Events that aren't READY, or at or below the applied offset, are passed over (the offset still counts as
    applied)."""
    verdicts, numbers, _, pools, scratch, seed = room
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
            _turn_clock(site, stamp, policy)
            if site.leaving > 0:
                n = take_back(state, verdicts, n, (offset, i), seed)
            n = _release(state, verdicts, n, offset, i)
            if n == verdicts.shape[0]:
                return i, n, False
            number, key, spoke, new_keys = numbers[i - first], columns.key[i], False, 0
            if number == NO_ROW:
                number = find(state, key, hash_key(key, seed))
            if number == NO_ROW:
                amount = stranger_demand(columns.messages[i], columns.outcome[i])
                number, new_keys = admit(state, key, (stamp, amount), policy, (scratch, seed)), 1
                if number == FULL:
                    return i, n, True
                if number == NO_ROW:
                    spoke = _stranger(state, verdicts[n], key, (stamp, amount), policy)
            if number != NO_ROW:
                event = stamp, columns.messages[i], columns.outcome[i], offset, new_keys, pools[i - first]
                spoke = _known(state, verdicts[n], number, event, policy)
            if spoke:
                verdict = verdicts[n]
                verdict.event, verdict.offset, verdict.issued_ms = i, offset, stamp
                site.throttles += 1
                n += 1
            site.applied_offset = offset
            site.events += 1
            site.late += stamp != columns.ts_ms[i]
            i += 1
    return i, n, False
