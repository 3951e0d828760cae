"""The fleet guard: whether throttles have begun to hit known senders as a rule. A circuit breaker for rules gone wrong.

A one-sided CUSUM over known senders (four active days), in the order of their events; cap = 20 budgets, at most a half:

    excess <- excess + 1              one is throttled anew; once while the excess lasts, an hour at most
    excess <- max(0, excess - cap)    one sends freely; once in half a minute at most
    trips at 6 + cap (those who sent freely in the half minute before)

Senders count, not messages: one that is compromised makes all the noise it likes and is one. Since when `excess` was
above zero is the best guess of when it began: what was decided since then is taken back (`engine.detector.breaker`). Tripped,
the site watches as one that learns, and asks every ten minutes whether as many would still be above a limit (6 + cap
senders, each counted once); if not, it is armed again. Nothing is learned: what is usual could be taught.
"""

from __future__ import annotations

from typing import Any

from engine.detector.constants import (
    GUARD_BUDGETS,
    GUARD_CAP,
    GUARD_FORGET_MS,
    GUARD_FREE_MS,
    GUARD_QUIET_MS,
    GUARD_SENDERS,
    SUSPECTS,
)
from engine.detector.expiry import mark, withdraw
from engine.detector.hash_table import NO_ROW, find, hash_key
from engine.detector.layout import PASSED, WAITING
from engine.detector.verdict import RELEASE
from topics.columns.jit import inline, kernel


def cap_of(percent: float) -> float:
    """The share of known senders whose throttles the guard lets be, for a budget in percent of regular mail."""
    return min(GUARD_CAP, GUARD_BUDGETS * percent / 100)


@inline
def trips(site: Any, key: Any, cap: float) -> bool:
    """Count a known sender that is to be throttled anew; whether that is one too many, and nobody is to be throttled."""
    if site.excess == 0.0 or site.clock_ms - site.excess_ms > GUARD_FORGET_MS:
        site.excess, site.suspected = 0.0, 0
        site.excess_ms = site.clock_ms
    for i in range(site.suspected):
        if site.suspects[i] == key:
            return False
    site.suspects[site.suspected] = key
    site.suspected += 1
    site.excess += 1.0
    if site.excess < GUARD_SENDERS + cap * site.free_before and site.suspected < SUSPECTS:
        return False
    site.trips += 1
    site.tripped_ms = site.seen_ms = site.clock_ms
    site.rearm_ms = site.clock_ms + GUARD_QUIET_MS
    site.leaving = site.suspected
    site.free = site.free_before = 0
    site.guard_senders = site.guard_alarms = 0
    return True


@inline
def _turn_window(site: Any) -> None:
    start_ms = site.clock_ms - site.clock_ms % GUARD_FREE_MS
    site.free_before = site.free if start_ms - site.seen_ms == GUARD_FREE_MS else 0
    site.free = 0
    site.seen_ms = start_ms


@inline
def watch(site: Any, last_ms: int, free: bool, alarmed: bool, cap: float) -> None:
    """Count a known sender's mail, its last event before at ``last_ms``. ``free``: it isn't throttled; ``alarmed``: it is
    above a limit."""
    if site.rearm_ms == 0 and site.clock_ms - site.seen_ms >= GUARD_FREE_MS:
        _turn_window(site)
    if last_ms >= site.seen_ms:
        return
    if site.rearm_ms == 0:
        if free:
            site.free += 1
            site.excess = max(0.0, site.excess - cap)
    else:
        site.guard_senders += 1
        site.guard_alarms += alarmed


@inline
def rearm(site: Any, cap: float) -> None:
    """Arm a tripped guard again if its time has come and the excess is over, or if there is no guard any more (a cap of 0).
    Ten minutes without an event are quiet as well."""
    if cap > 0.0 and site.clock_ms < site.rearm_ms:
        return
    silent = site.clock_ms - site.rearm_ms >= GUARD_QUIET_MS
    site.rearm_ms = site.clock_ms + GUARD_QUIET_MS
    if cap == 0.0 or silent or site.guard_alarms - cap * site.guard_senders < GUARD_SENDERS:
        site.rearm_ms = 0
        site.excess = 0.0
    site.seen_ms = site.clock_ms
    site.guard_senders = site.guard_alarms = 0


@kernel
def take_back(state: Any, verdicts: Any, n: int, source: Any, seed: Any) -> int:
    """Release what is left of the suspects' decisions, as far as ``verdicts`` has room; the number of verdicts.

    ``source``: (offset, number in the block) of the event."""
    site = state.site[0]
    while site.leaving > 0 and n < verdicts.shape[0]:
        site.leaving -= 1
        key = site.suspects[site.leaving]
        number = find(state, key, hash_key(key, seed))
        if number == NO_ROW or state.rows[number].flags & (WAITING | PASSED) != WAITING:
            continue
        withdraw(state, number)
        row, verdict = state.rows[number], verdicts[n]
        verdict.kind, verdict.key, verdict.prefix, verdict.until_ms = RELEASE, key, 0, row.until_ms
        verdict.offset, verdict.event = source
        verdict.issued_ms = site.clock_ms
        row.flags &= ~WAITING
        mark(state, number)
        site.releases += 1
        site.withdrawn += 1
        n += 1
    return n
