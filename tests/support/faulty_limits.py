"""Seeded sites of known senders whose limits are wrong for some periods: the case that the circuit breaker is for.

For nine days `senders` regulars send from time to time. On the ninth day, from 10:00 on, some of them are compromised, and
many newcomers arrive. In a faulty period a known sender's limits are a hundredth of the right ones.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.support.sequences import DAY_MS, HOUR_MS, Event, far_apart
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED

MONDAY_MS = 1_767_571_200_000
LAST_DAY_MS = MONDAY_MS + 8 * DAY_MS
MINUTE_MS = 60_000
HUNDREDTH = 1e-8  # of T: a known sender's limits scale with its fourth root
COMPROMISED = 3


class LimitsPeriod(NamedTuple):
    """The limits from an event on."""

    first: int  # number of that event
    factor: float  # T is the site's times this


def regulars(seed: int, senders: int = 40) -> list[Event]:
    """Return the events of a site: about 35,000 for 40 senders."""
    draw, mails = random.Random(seed), []
    for sender in range(senders):
        now_ms = MONDAY_MS + draw.randrange(HOUR_MS)
        while now_ms < MONDAY_MS + 9 * DAY_MS:
            outcome = draw.choices((ACCEPTED, REJECTED, DEFERRED), (18, 1, 1))[0]
            mails.append((now_ms, far_apart(sender), draw.choice((1, 1, 1, 2, 5)), outcome))
            now_ms += int(draw.expovariate(1 / (15 * MINUTE_MS)))
    for sender in range(COMPROMISED):
        start_ms = LAST_DAY_MS + 10 * HOUR_MS + sender * MINUTE_MS
        mails += [(start_ms + 20_000 * i, far_apart(sender), 30, ACCEPTED) for i in range(1500)]
    mails += [
        (LAST_DAY_MS + draw.randrange(DAY_MS), far_apart(1000 + draw.randrange(300)), draw.choice((1, 3, 50)), ACCEPTED)
        for _ in range(900)
    ]
    late = [(t_ms - draw.randrange(HOUR_MS) * (draw.random() < 0.02), *rest) for t_ms, *rest in sorted(mails)]
    return [Event(i, t_ms, -1, key, messages, outcome) for i, (t_ms, key, messages, outcome) in enumerate(late)]


def _first_after(events: list[Event], hour: float) -> int:
    """Return the number of the first event after `hour` hours of the last day."""
    return next(event.offset for event in events if event.ts_ms >= LAST_DAY_MS + hour * HOUR_MS)


def limit_periods(events: list[Event]) -> list[LimitsPeriod]:
    """Return periods with wrong limits at noon for an hour, and at 18:00 for ten minutes."""
    return [
        LimitsPeriod(0, 1.0),
        LimitsPeriod(_first_after(events, 12), HUNDREDTH),
        LimitsPeriod(_first_after(events, 13), 1.0),
        LimitsPeriod(_first_after(events, 18), HUNDREDTH),
        LimitsPeriod(_first_after(events, 18.2), 1.0),
    ]
