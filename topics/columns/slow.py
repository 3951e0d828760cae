"""Slow path: records that the scanner didn't read go through `topics.events` one by one, with the same result.

Cost: about 2 microseconds per record. `Settled.slow` counts them.
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
    """A record that is no connection event."""

    event: int  # its number in the block
    reason: str


class Settled(NamedTuple):
    """The result of `settle` for a block."""

    slow: int  # records that took the slow path
    poison: list[Poison]  # by number


def settle(columns: EventColumns, count: int, value_of: Callable[[int], bytes]) -> Settled:
    """Parse the SLOW records among the first ``count``, which become READY or POISON.

    ``value_of(i)`` returns the value of record i.
    """
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
