"""The detector's loop: apply a block of events, one after the other, to a partition's state, and write the verdicts.

First law: state and verdicts are a function of the events in offset order; blocks, batches and speed change nothing.

The loop works through runs of 32 events. It first looks up every event's row and prefetches index slots and rows (a row is a
cache miss in any table of useful size: 1.6 times the rate), then applies the events one by one. A full verdict buffer or a
full table ends the call early; the caller empties the buffer or sweeps the table and continues at that event.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.admission import FULL, admit
from engine.detector.baseline import close_day
from engine.detector.breaker import count_sender, rearm, withdraw_suspects
from engine.detector.budget import add_demand, close_site_day, decides, open_site
from engine.detector.cohort import update_newcomer
from engine.detector.constants import DAY_MS, NEWCOMER_MS, PROBATION_DAYS, RELAY
from engine.detector.counters import count_event, untracked_demand
from engine.detector.expiry import mark_dirty, pop, push
from engine.detector.hash_table import NO_ROW, SEED, find, hash_key, prefetch_row, prefetch_slot
from engine.detector.layout import COUNTED, PASSED, THROTTLED
from engine.detector.pool_rule import evaluate_pools, is_young
from engine.detector.pool_table import prefetch_keys, prefetch_pool
from engine.detector.pools import PoolEvent, pool_key
from engine.detector.prefixes import NO_RANK, count_untracked, expire_prefix, grant_pass, write_prefix_throttle
from engine.detector.throttle import Alarm, exceeded_scales, throttle, write_throttle
from engine.detector.token_bucket import refill, take_tokens
from engine.detector.verdict import VERDICT, write_release, write_source
from topics.columns.jit import inline, kernel
from topics.columns.keys import SCRATCH
from topics.columns.memory import int64
from topics.columns.scan import ACCEPTED, DEFERRED, READY, event_time

RUN_EVENTS = 32


class Event(NamedTuple):
    """An event of a sender with a row."""

    t_ms: int
    messages: int
    outcome: int
    offset: int
    new_keys: int  # 1 for the sender's first event, else 0
    pool_slots: npt.NDArray[np.int64]  # prefetched row numbers of its pools, by level; may be wrong


class Scratch(NamedTuple):
    """Memory that `detect` writes to, because kernels allocate none, and the seed of the hash table."""

    verdicts: npt.NDArray[Any]  # VERDICT[]: the result
    numbers: npt.NDArray[np.int64]  # row number of each event in the run
    hashes: npt.NDArray[np.uint64]  # hash of each event's key
    pool_slots: npt.NDArray[np.int64]  # [event, level]
    key_text: npt.NDArray[np.uint8]
    seed: np.uint64


def new_scratch(verdicts: int) -> Scratch:
    """Return scratch memory with room for `verdicts` verdicts."""
    return Scratch(
        verdicts=np.zeros(verdicts, VERDICT),
        numbers=np.zeros(RUN_EVENTS, np.int64),
        hashes=np.zeros(RUN_EVENTS, np.uint64),
        pool_slots=np.zeros((RUN_EVENTS, RELAY), np.int64),
        key_text=np.zeros(SCRATCH, np.uint8),
        seed=SEED,
    )


@inline
def _look_up(columns: Any, first: int, last: int, state: Any, scratch: Any) -> None:
    """Set `scratch.numbers` to the rows of a run's events and prefetch them, with the pools of young senders."""
    numbers, hashes, slots = scratch.numbers, scratch.hashes, scratch.pool_slots
    for i in range(first, last):
        hashes[i - first] = hash_key(columns.key[i], scratch.seed)
        prefetch_slot(state, hashes[i - first])
    for i in range(last - first):
        prefetch_row(state, hashes[i])
    for i in range(first, last):
        number = find(state, columns.key[i], hashes[i - first])
        numbers[i - first] = number
        if number == NO_ROW or is_young(state.rows[number], columns.ts_ms[i]):
            for level in range(RELAY):
                slots[i - first, level] = prefetch_keys(state.pools, pool_key(columns.key[i], level))
    for i in range(first, last):
        number = numbers[i - first]
        if number == NO_ROW or is_young(state.rows[number], columns.ts_ms[i]):
            for level in range(RELAY):
                key = pool_key(columns.key[i], level)
                slots[i - first, level] = prefetch_pool(state.pools, slots[i - first, level], key)


@inline
def _advance_clock(site: Any, t_ms: int, policy: Any) -> None:
    """Advance the site's clock to `t_ms`, close its day if that is over, and check an open breaker."""
    if site.first_ms < 0:
        open_site(site, t_ms, policy.learning_ms)
    site.clock_ms = max(site.clock_ms, t_ms)
    today = site.clock_ms // DAY_MS
    if today > site.day:
        close_site_day(site, today, policy.threshold, policy.learning_ms)
    if site.breaker_rearm_ms > 0:
        rearm(site, policy.breaker_share)


@inline
def _release_expired(state: Any, verdicts: Any, n: int, event: int, offset: int) -> int:
    """Release the throttles that have expired by the site's clock, keys before prefixes, while `verdicts` has room.

    Return the new number of verdicts.
    """
    site, cursor = state.site[0], state.cursor[0]
    while cursor.throttled > 0 and state.queue_ms[0] <= site.clock_ms and n < verdicts.shape[0]:
        queued_ms = state.queue_ms[0]
        number = pop(state)
        row = state.rows[number]
        if row.until_ms != queued_ms:
            push(state, number, row.until_ms)
            continue
        write_release(verdicts[n], row.key, 0, row.until_ms)
        write_source(verdicts[n], event, offset, site.clock_ms)
        row.flags &= ~(THROTTLED | PASSED)
        mark_dirty(state, number)
        site.releases += 1
        n += 1
    while cursor.throttled_prefixes > 0 and cursor.prefix_expiry_ms <= site.clock_ms and n < verdicts.shape[0]:
        if expire_prefix(state, verdicts[n]):
            write_source(verdicts[n], event, offset, site.clock_ms)
            site.releases += 1
            n += 1
    return n


@inline
def _trains_cohort(row: Any, site: Any, t_ms: int) -> bool:
    """Return True on a counted newcomer's first day, unless it began before the cohort was rescaled."""
    age_ms = t_ms - int64(row.first_seen_s) * 1000
    fresh = row.flags & COUNTED != 0 and age_ms < NEWCOMER_MS and int64(row.first_seen_s) >= site.cohort_rescaled_s
    return bool(fresh and row.rejected <= row.accepted)


@inline
def _update_row(state: Any, number: int, event: Any, policy: Any) -> Any:
    """Count an event on its row and in its pools. Return (whether a decision must be published, its Alarm)."""
    row, site, t_ms = state.rows[number], state.site[0], event.t_ms
    today = t_ms // DAY_MS
    if today > row.day:
        close_day(row, site, today)
    elapsed_ms = t_ms - row.last_ms
    amount = count_event(row, t_ms, event.messages, event.outcome)
    if row.until_ms > t_ms:
        refill(row, elapsed_ms)
    if _trains_cohort(row, site, t_ms):
        update_newcomer(site, row)
    mark_dirty(state, number)
    exceeded, pool, publishes = 0, NO_ROW, False
    if is_young(row, t_ms) and (amount > 0.0 or event.new_keys):
        pool_event = PoolEvent(t_ms, event.offset, amount, event.new_keys, event.pool_slots)
        pool = evaluate_pools(state, row, pool_event, policy)
    if event.outcome != DEFERRED:
        exceeded = exceeded_scales(row, site, policy.threshold * site.threshold_scale)
        if exceeded != 0 or pool != NO_ROW:
            publishes = throttle(state, number, t_ms, Alarm(exceeded, pool), policy)
        if event.outcome == ACCEPTED:
            add_demand(row, site, event.messages)
            if row.active_days > PROBATION_DAYS and policy.breaker_share > 0.0:
                is_free = row.flags & (THROTTLED | PASSED) != THROTTLED
                count_sender(site, t_ms - elapsed_ms, is_free, exceeded != 0, policy.breaker_share)
    if row.until_ms > t_ms:
        site.budget_day_deferred += take_tokens(row, event.messages, event.outcome)
    if publishes and pool != NO_ROW:
        site.pool_throttles += 1.0
    return publishes, Alarm(exceeded, pool)


@inline
def _tracked_event(state: Any, verdict: Any, number: int, event: Any, policy: Any) -> bool:
    """Apply an event of a sender with a row. Return True if a verdict was written."""
    publishes, alarm = _update_row(state, number, event, policy)
    if publishes:
        write_throttle(verdict, state, number, alarm, policy.threshold * state.site[0].threshold_scale)
        return True
    if state.cursor[0].throttled_prefixes > 0:
        within = grant_pass(state, number, event.t_ms, policy.threshold)
        if within > 0:
            write_throttle(verdict, state, number, Alarm(0, NO_ROW), policy.threshold)
            verdict.within = within
            return True
    return False


@inline
def _untracked_event(state: Any, verdict: Any, key: Any, t_ms: int, demand: float, policy: Any) -> bool:
    """Apply an event of a sender without a row. Return True if a verdict was written."""
    state.site[0].untracked += 1
    if not decides(state.site[0], policy):
        return False
    rank = count_untracked(state, key, t_ms, demand, policy.threshold)
    if rank == NO_RANK:
        return False
    write_prefix_throttle(verdict, state, key, rank, policy.threshold)
    return True


@kernel
def detect(columns: Any, first: int, last: int, state: Any, policy: Any, scratch: Any) -> Any:
    """Apply events `first` to `last` of `columns`.

    Return (the next event to apply, verdicts written to `scratch.verdicts`, whether the table must be swept before it).
    Events that aren't READY, or at or before the applied offset, are skipped; their offsets count as applied.
    """
    verdicts, site, n, i = scratch.verdicts, state.site[0], 0, first
    while i < last:
        run_first, run_end = i, min(i + RUN_EVENTS, last)
        _look_up(columns, run_first, run_end, state, scratch)
        while i < run_end:
            offset = columns.offset[i]
            if offset <= site.applied_offset or columns.status[i] != READY:
                site.applied_offset = max(site.applied_offset, offset)
                i += 1
                continue
            t_ms = event_time(columns, i, policy.window_ms)
            _advance_clock(site, t_ms, policy)
            if site.breaker_pending > 0:
                n = withdraw_suspects(state, verdicts, n, i, offset, scratch.seed)
            n = _release_expired(state, verdicts, n, i, offset)
            if n == verdicts.shape[0]:
                return i, n, False
            number, key, has_verdict, new_keys = scratch.numbers[i - run_first], columns.key[i], False, 0
            if number == NO_ROW:
                number = find(state, key, hash_key(key, scratch.seed))
            if number == NO_ROW:
                demand = untracked_demand(columns.messages[i], columns.outcome[i])
                number, new_keys = admit(state, key, t_ms, demand, policy, scratch), 1
                if number == FULL:
                    return i, n, True
                if number == NO_ROW:
                    has_verdict = _untracked_event(state, verdicts[n], key, t_ms, demand, policy)
            if number != NO_ROW:
                slots = scratch.pool_slots[i - run_first]
                event = Event(t_ms, columns.messages[i], columns.outcome[i], offset, new_keys, slots)
                has_verdict = _tracked_event(state, verdicts[n], number, event, policy)
            if has_verdict:
                write_source(verdicts[n], i, offset, t_ms)
                site.throttles += 1
                n += 1
            site.applied_offset = offset
            site.events += 1
            site.late += t_ms != columns.ts_ms[i]
            i += 1
    return i, n, False
