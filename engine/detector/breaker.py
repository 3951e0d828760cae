"""The circuit breaker: it trips when throttles hit known senders as a rule, so a rule gone wrong can't stop regular mail.

A one-sided CUSUM over known senders (four active days), in the order of their events; share = 20 budgets, at most a half:

    excess <- excess + 1                a sender is newly throttled; once while the excess lasts, an hour at most
    excess <- max(0, excess - share)    a sender sends without a throttle; once per half minute at most
    trips at 6 + share x (senders without a throttle in the half minute before), or at 256 senders

Senders count, not messages: a compromised host may send any number and counts once. The time since which `excess` is above 0
is the best guess of when the fault began: throttles of known senders since then are withdrawn. While the breaker is open, the
site suppresses throttles as if it were learning. Every ten minutes it checks whether as many would still be above a limit (6 +
share x senders, each counted once); if not, it re-arms. It learns nothing, because an attacker could train it.
"""

from __future__ import annotations

from typing import Any

from engine.detector.constants import (
    BREAKER_BUDGETS,
    BREAKER_FORGET_MS,
    BREAKER_REARM_MS,
    BREAKER_SENDERS,
    BREAKER_SHARE_MOST,
    BREAKER_SUSPECTS,
    BREAKER_WINDOW_MS,
)
from engine.detector.expiry import mark_dirty, remove
from engine.detector.hash_table import NO_ROW, find, hash_key
from engine.detector.layout import PASSED, THROTTLED
from engine.detector.verdict import write_release, write_source
from topics.columns.jit import inline, kernel


def allowed_share(percent: float) -> float:
    """Return the share of known senders whose throttles are tolerated, for a budget in percent of regular mail."""
    return min(BREAKER_SHARE_MOST, BREAKER_BUDGETS * percent / 100)


@inline
def count_throttle(site: Any, key: Any, share: float) -> bool:
    """Count a known sender that is about to be newly throttled. Return True if this trips the breaker."""
    if site.breaker_excess == 0.0 or site.clock_ms - site.breaker_excess_since_ms > BREAKER_FORGET_MS:
        site.breaker_excess, site.breaker_suspected = 0.0, 0
        site.breaker_excess_since_ms = site.clock_ms
    for i in range(site.breaker_suspected):
        if site.breaker_suspects[i] == key:
            return False
    site.breaker_suspects[site.breaker_suspected] = key
    site.breaker_suspected += 1
    site.breaker_excess += 1.0
    tolerated = BREAKER_SENDERS + share * site.breaker_free_before
    if site.breaker_excess < tolerated and site.breaker_suspected < BREAKER_SUSPECTS:
        return False
    _trip(site)
    return True


@inline
def _trip(site: Any) -> None:
    """Open the breaker and mark all suspects for withdrawal."""
    site.breaker_trips += 1
    site.breaker_tripped_ms = site.breaker_window_ms = site.clock_ms
    site.breaker_rearm_ms = site.clock_ms + BREAKER_REARM_MS
    site.breaker_pending = site.breaker_suspected
    site.breaker_free = site.breaker_free_before = 0
    site.breaker_senders = site.breaker_alarms = 0


@inline
def _open_window(site: Any) -> None:
    """Open the half minute of the site's clock."""
    start_ms = site.clock_ms - site.clock_ms % BREAKER_WINDOW_MS
    site.breaker_free_before = site.breaker_free if start_ms - site.breaker_window_ms == BREAKER_WINDOW_MS else 0
    site.breaker_free = 0
    site.breaker_window_ms = start_ms


@inline
def count_sender(site: Any, last_ms: int, is_free: bool, is_alarmed: bool, share: float) -> None:
    """Count a known sender's accepted mail, once per window.

    `last_ms` is the time of its previous event; `is_free`: no throttle is active; `is_alarmed`: it is above a limit.
    """
    if site.breaker_rearm_ms == 0 and site.clock_ms - site.breaker_window_ms >= BREAKER_WINDOW_MS:
        _open_window(site)
    if last_ms >= site.breaker_window_ms:
        return
    if site.breaker_rearm_ms == 0:
        if is_free:
            site.breaker_free += 1
            site.breaker_excess = max(0.0, site.breaker_excess - share)
    else:
        site.breaker_senders += 1
        site.breaker_alarms += is_alarmed


@inline
def rearm(site: Any, share: float) -> None:
    """Check an open breaker once its time has come, and close it if the excess is over.

    Ten minutes without an event also close it, as does a `share` of 0, which means that no breaker is configured.
    """
    if share > 0.0 and site.clock_ms < site.breaker_rearm_ms:
        return
    is_silent = site.clock_ms - site.breaker_rearm_ms >= BREAKER_REARM_MS
    site.breaker_rearm_ms = site.clock_ms + BREAKER_REARM_MS
    if share == 0.0 or is_silent or site.breaker_alarms - share * site.breaker_senders < BREAKER_SENDERS:
        site.breaker_rearm_ms = 0
        site.breaker_excess = 0.0
    site.breaker_window_ms = site.clock_ms
    site.breaker_senders = site.breaker_alarms = 0


@kernel
def withdraw_suspects(state: Any, verdicts: Any, n: int, event: int, offset: int, seed: Any) -> int:
    """Release the throttles of pending suspects while `verdicts` has room. Return the new number of verdicts.

    `event` (its number in the block) and `offset` name the event that the releases follow.
    """
    site = state.site[0]
    while site.breaker_pending > 0 and n < verdicts.shape[0]:
        site.breaker_pending -= 1
        key = site.breaker_suspects[site.breaker_pending]
        number = find(state, key, hash_key(key, seed))
        if number == NO_ROW or state.rows[number].flags & (THROTTLED | PASSED) != THROTTLED:
            continue
        remove(state, number)
        row = state.rows[number]
        write_release(verdicts[n], key, 0, row.until_ms)
        write_source(verdicts[n], event, offset, site.clock_ms)
        row.flags &= ~THROTTLED
        mark_dirty(state, number)
        site.releases += 1
        site.breaker_withdrawn += 1
        n += 1
    return n
