"""Decisions taken back when the fleet guard has tripped: those on known senders since the excess began, newest first.

Releases like any other, at the event after the one that tripped it: readers ignore a release at its throttle's own offset.
What was in force before the excess stays until it lapses. The throttle goes on in the row's shadow, as one of a site that
learns, so that it is known what it would have held back.
"""

from __future__ import annotations

from typing import Any

from engine.models.layout import PASSED, WAITING
from engine.models.table import NO_ROW, find, hash_key
from engine.policy.lapse import mark, withdraw
from engine.policy.verdicts import RELEASE
from topics.columns.jit import kernel


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
