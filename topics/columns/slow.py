"""The slow path: records that the scanner handed back go through `topics.events`, one by one, with the same result.

About 2 microseconds a record. Its share is measured where it is used: `Settled.slow` over the block's events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topics.columns.scan import ACCEPTED, DEFERRED, POISON, READY, REJECTED, SLOW, EventColumns
from topics.events import PoisonRecord, parse_event
from topics.keys import key_of

OUTCOMES = {"accepted": ACCEPTED, "deferred": DEFERRED, "rejected": REJECTED}


class Poison(NamedTuple):
    """A record that is no connection event: its number in the block, and why."""

    event: int
    reason: str


class Settled(NamedTuple):
    """What became of a block's records: how many took the slow path, and which are poison."""

    slow: int
    poison: list[Poison]


def settle(columns: EventColumns, count: int, value_of: Callable[[int], bytes]) -> Settled:
    """Decide the records among the first ``count`` that are SLOW or POISON; ``value_of(i)`` gives a record's value."""
    status = columns.status[:count]
    if not status.any():
        return Settled(0, [])
    poison = [Poison(int(i), "null value") for i in np.flatnonzero(status == POISON)]
    slow = np.flatnonzero(status == SLOW)
    for i in slow:
        try:
            event = parse_event(value_of(int(i)))
        except PoisonRecord as error:
            columns.status[i] = POISON
            poison.append(Poison(int(i), str(error)))
            continue
        columns.ts_ms[i] = event.ts
        columns.key[i] = key_of(event.ip)
        columns.messages[i] = event.messages
        columns.outcome[i] = OUTCOMES[event.outcome]
        columns.status[i] = READY
    return Settled(len(slow), sorted(poison))
