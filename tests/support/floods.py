"""Event sequences for small tables: more senders than rows, floods within prefixes, senders that return for months."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, LONG_GAPS_MS, SECOND_MS, START_MS, Event, far_apart
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED

KEYS = [
    *(IPV4_TAG + 0x0A000000 + i for i in range(12)),
    *(IPV4_TAG + 0x0A000000 + 256 * i for i in range(1, 9)),
    *(0x20010DB8_00000000 + 0x10000 * (i // 4) + i for i in range(16)),
    *(far_apart(i) for i in range(12)),
]
GAPS_MS = [0, 1, 1, SECOND_MS, SECOND_MS, 600 * SECOND_MS, HOUR_MS // 2, HOUR_MS] * 4 + [6 * HOUR_MS, *LONG_GAPS_MS]
MESSAGES = [1, 1, 2, 5, 14, 25, 39, 41, 60, 200, 3000]
OUTCOMES = [ACCEPTED] * 6 + [REJECTED, DEFERRED]
TABLES = (GAPS_MS, KEYS, MESSAGES, OUTCOMES)


def _events(choices: bytes) -> list[Event]:
    """Return events made of four bytes each: an index into every table."""
    events, now_ms = [], START_MS
    for offset, at in enumerate(range(0, len(choices), len(TABLES))):
        gap_ms, key, messages, outcome = (
            table[choice % len(table)] for table, choice in zip(TABLES, choices[at:], strict=False)
        )
        now_ms += gap_ms
        events.append(Event(offset, now_ms, -1, key, messages, outcome))
    return events


def flooded_sequences(most: int = 120) -> st.SearchStrategy[list[Event]]:
    """Up to `most` events of 48 keys in few prefixes."""
    return st.integers(0, most).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)).map(_events)


def _flooder(draw: random.Random, kind: int) -> int:
    """Return an address of a flood by kind: of a /24, a /16, eight /16s, a /56, a /48, a /32, all of IPv6."""
    v4, v6 = IPV4_TAG + 0xC6330000, 0x2A0B_F00D_0000_0000
    return (
        v4 + draw.randrange(1 << 8),
        v4 + draw.randrange(1 << 16),
        v4 + draw.randrange(1 << 19),
        v6 + draw.randrange(1 << 8),
        v6 + draw.randrange(1 << 16),
        v6 + draw.randrange(1 << 32),
        draw.randrange(1 << 62),
    )[kind]


def flood_sequence(seed: int, count: int, senders: int = 30) -> list[Event]:
    """Return `count` events over two months.

    There are `senders` regulars, some of them inside the prefixes that are flooded for an hour of every third day; newcomers
    that come once or twice; and late timestamps.
    """
    draw, now_ms, events = random.Random(seed), START_MS, list[Event]()
    regulars = [far_apart(i) if i % 3 else _flooder(draw, draw.randrange(6)) for i in range(senders)]
    newcomers = [far_apart(1000 + i) for i in range(count)]
    while len(events) < count:
        day = (now_ms - START_MS) // DAY_MS
        flooding = day % 3 == 2 and now_ms // HOUR_MS % 24 == 9
        now_ms += draw.randrange(4 * SECOND_MS) if flooding else int(draw.expovariate(60 / DAY_MS))
        key, messages, outcome = draw.choice(regulars), draw.choice((1, 1, 2, 3, 8, 200)), ACCEPTED
        if flooding and draw.random() < 0.9:
            key, messages = _flooder(draw, day // 3 % 7), draw.choice((1, 1, 1, 5, 20))
            outcome = draw.choice((ACCEPTED, ACCEPTED, ACCEPTED, REJECTED, DEFERRED))
        elif draw.random() < 0.4:
            key, messages = newcomers[len(events) // draw.choice((1, 2))], draw.choice((1, 1, 3, 70))
        late_ms = draw.choice((0, 0, 0, 0, draw.randrange(HOUR_MS), draw.randrange(3 * DAY_MS)))
        events.append(Event(len(events), now_ms - late_ms, -1, key, messages, outcome))
    return events
