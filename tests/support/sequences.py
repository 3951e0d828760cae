"""Event sequences for the laws: short ones that hypothesis can shrink, and long seeded ones that reach every branch.

Both mix newcomers, regulars, bursts, retries, rejected-only senders, late timestamps and idle months. A `record_ms` of -1 is a
record without a time of its own. Events are in offset order of one partition.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from topics.columns.scan import ACCEPTED, DEFERRED, READY, REJECTED, EventColumns, empty_columns

SECOND_MS = 1000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WINDOW_MS = DAY_MS
START_MS = 1_700_000_000_000
IPV4_TAG = 0xFFFFFFFF_00000000
OUTCOMES = {ACCEPTED: "accepted", DEFERRED: "deferred", REJECTED: "rejected"}


def far_apart(number: int) -> int:
    """Return an IPv4 key for a number; keys of different numbers differ, and those of consecutive ones share no /16."""
    return IPV4_TAG + (number * 0x9E3779B1 + 0x31415926) % 2**32


class Event(NamedTuple):
    """One event as a partition gets it."""

    offset: int
    ts_ms: int
    record_ms: int
    key: int
    messages: int
    outcome: int


def columns_of(events: Sequence[Event], status: Iterable[int] | None = None) -> EventColumns:
    """Return the events as a block's columns, with the given `status`, else all READY."""
    columns = empty_columns(len(events))
    if events:
        for name in Event._fields:
            column: npt.NDArray[np.int64] = getattr(columns, name)
            column[:] = np.array([getattr(event, name) for event in events], column.dtype)
        columns.status[:] = READY if status is None else list(status)
    return columns


SHORT_GAPS_MS = [0, 1, SECOND_MS, 90 * SECOND_MS, 600 * SECOND_MS, HOUR_MS // 2, HOUR_MS * 3 // 4]
LONG_GAPS_MS = [HOUR_MS, 7 * HOUR_MS, DAY_MS, 2 * DAY_MS, 12 * DAY_MS, 40 * DAY_MS, -SECOND_MS, -HOUR_MS, -2 * DAY_MS]
GAPS_MS = SHORT_GAPS_MS * 3 + LONG_GAPS_MS
RECORD_LAGS_MS = [0] * 9 + [None] * 3 + [250, -HOUR_MS, WINDOW_MS, WINDOW_MS + 1, -3 * DAY_MS]
KEYS = [0, 0x20010DB8_00010002, *(IPV4_TAG + i for i in (0, 1, 7, 0xFFFFFFFF))]
MESSAGES = [1, 0, 2, 5, 14, 25, 39, 41, 60, 200, 3000, 70_000, 1_000_000]
OUTCOME = [ACCEPTED] * 6 + [REJECTED, DEFERRED]
ADVANCES = [1, 1, 1, 4]
TABLES: tuple[Sequence[Any], ...] = (GAPS_MS, RECORD_LAGS_MS, KEYS, MESSAGES, OUTCOME, ADVANCES)


def _events(choices: bytes) -> list[Event]:
    """Return events made of six bytes each: an index into every table."""
    events, now_ms, offset = [], START_MS, -1
    for at in range(0, len(choices), len(TABLES)):
        gap_ms, lag_ms, key, messages, outcome, advance = (
            table[choice % len(table)] for table, choice in zip(TABLES, choices[at:], strict=False)
        )
        now_ms, offset = now_ms + gap_ms, offset + advance
        record_ms = -1 if lag_ms is None else now_ms + lag_ms
        events.append(Event(offset, now_ms, record_ms, key, messages, outcome))
    return events


def _choices(events: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=events * len(TABLES), max_size=events * len(TABLES))


def sequences(most: int = 80) -> st.SearchStrategy[list[Event]]:
    """Up to `most` events of a few keys with volumes around and far above a newcomer's limits."""
    return st.integers(0, most).flatmap(_choices).map(_events)


def _step(draw: random.Random, fresh: Iterator[int]) -> tuple[int, int, int]:
    """Return (key, messages, outcome) of one event of a long sequence."""
    kind = draw.random()
    if kind < 0.45:
        return IPV4_TAG + draw.randrange(200), draw.choice((1, 1, 2, 3, 8) * 30 + (400,)), ACCEPTED
    if kind < 0.70:
        return (
            next(fresh),
            min(int(draw.paretovariate(1.2)), 50),
            draw.choices((ACCEPTED, REJECTED, DEFERRED), (8, 1, 1))[0],
        )
    if kind < 0.85:
        return (
            IPV4_TAG + 1000 + draw.randrange(20),
            draw.choice((5, 20, 40, 150, 900)),
            draw.choice((ACCEPTED, DEFERRED)),
        )
    if kind < 0.95:
        return 0x20010DB8_00000000 + draw.randrange(80), draw.choice((1, 3, 12)), REJECTED
    return IPV4_TAG + 2000 + draw.randrange(500), draw.choice((1, 30, 70)), ACCEPTED


def rich_sequence(seed: int, count: int) -> list[Event]:
    """Return `count` events over about two months and two idle ones; a quarter are of new keys."""
    draw, now_ms, offset, events = random.Random(seed), START_MS, -1, []
    fresh = (far_apart(i) for i in range(count))
    for i in range(count):
        now_ms += int(draw.expovariate(count / (60 * DAY_MS))) + (40 * DAY_MS if i in (count // 3, count // 2) else 0)
        offset += 1 if draw.random() < 0.95 else draw.randrange(2, 50)
        ts_ms = now_ms - (draw.randrange(3 * HOUR_MS) if draw.random() < 0.1 else 0)
        record_ms = draw.choices((-1, now_ms, ts_ms - 2 * DAY_MS), (50, 48, 2))[0]
        events.append(Event(offset, ts_ms, record_ms, *_step(draw, fresh)))
    return events


def snowshoe_sequence(seed: int, count: int) -> list[Event]:
    """Return `count` events over about three weeks: newcomers from everywhere, and a snowshoe attack every second day.

    Each attack is 40 new addresses of 10.9.0.0/16, by turns in one /24 and spread, that come within minutes and send for
    three hours.
    """
    draw, events = random.Random(seed), []
    for i in range(count // 2):
        ts_ms = START_MS + i * 21 * DAY_MS // (count // 2)
        key = far_apart(i % 1000) if draw.random() < 0.9 else 0x20010DB8_00000000 + draw.randrange(1 << 12)
        events.append((ts_ms, key, draw.choice((1, 1, 2, 9))))
    base = IPV4_TAG + 0x0A090000
    for i in range(count - count // 2):
        attack, number = divmod(i, count // 20)
        address = (attack << 12) + number % 40 * (1 if attack % 2 else 100)
        ts_ms = START_MS + (2 * attack + 1) * DAY_MS + draw.randrange(600_000 if number < 40 else 3 * HOUR_MS)
        events.append((ts_ms, base + address, draw.choice((1, 2, 4))))
    outcomes = draw.choices((ACCEPTED, REJECTED, DEFERRED), (90, 5, 5), k=count)
    return [
        Event(i, ts_ms, -1, key, messages, outcome)
        for i, ((ts_ms, key, messages), outcome) in enumerate(zip(sorted(events), outcomes, strict=True))
    ]


CUTS = st.lists(st.integers(0, 80), max_size=6)


def spans(cuts: list[int], size: int) -> list[tuple[int, int]]:
    """Return adjacent spans of `size` events, cut at `cuts`; some may be empty."""
    return list(pairwise(sorted([0, size, *(min(cut, size) for cut in cuts)])))


def event_times(events: Iterable[Event]) -> Iterator[tuple[Event, int]]:
    """Yield each event with the time that the detector gives it."""
    for event in events:
        is_far = event.record_ms >= 0 and abs(event.ts_ms - event.record_ms) > WINDOW_MS
        yield event, event.record_ms if is_far else event.ts_ms
