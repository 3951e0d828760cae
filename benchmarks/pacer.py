"""Open load in a process of its own: events at a steady rate, stamped with the time at which they were meant to be sent.

Every 10 ms a batch goes out, however late the last one was. All its senders but one are regulars who stay far below any
limit; that one, never seen before, offers far more than a newcomer may, so its event must lead to a decision at once. It
stands anywhere in the batch. Prints one JSON object: what was sent, and how late the latest batch was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import numpy as np
import uvloop

from benchmarks.cluster import PARTITIONS, Place
from benchmarks.workload import BEHIND_IPV4, FIRST_IPV4, NAMES, TAIL, vary
from engine.stream.producing import EventProducer
from topics.columns.keys import IPV4_TAG
from topics.columns.write import LINE_ROOM, Drafts, texts, write_lines

TICK_MS = 10
REGULARS = 200_000
FIRST_NEWCOMER = 0xC6120000  # 198.18.0.0/15, set aside for benchmarks
MOST_NEWCOMERS = 1 << 17
NEWCOMER_MESSAGES = 1000
LEAD_S = 0.5  # before the first batch is due


def batches(seconds: float) -> int:
    """How many batches go out in so many seconds."""
    return int(seconds * 1000) // TICK_MS


def newcomer(tick: int) -> int:
    """The newcomer's IPv4 address in batch ``tick``."""
    return FIRST_NEWCOMER + tick


class Ticks:
    """Writes the lines of one batch after the other, ``count`` events each."""

    def __init__(self, count: int) -> None:
        self._count, self._texts = count, texts(NAMES, TAIL)
        line_octets = LINE_ROOM + len(self._texts.names) + len(self._texts.tail)
        self._draw = np.random.default_rng(1)
        addresses = self._draw.choice(BEHIND_IPV4 - FIRST_IPV4, REGULARS, replace=False)
        self._regulars = IPV4_TAG | addresses.astype(np.uint64)
        self._out = np.empty((count + 1) * line_octets, np.uint8)

    def lines(self, tick: int, ts_ms: int) -> bytes:
        """The lines of batch ``tick``."""
        draw, count = self._draw, self._count
        keys = self._regulars[draw.integers(0, REGULARS, count)]
        messages, place = np.ones(count, np.int32), draw.integers(0, count)
        keys[place], messages[place] = IPV4_TAG | np.uint64(newcomer(tick)), NEWCOMER_MESSAGES
        drafts = Drafts(
            np.full(count, ts_ms), keys, np.zeros(count, np.uint64), messages, np.zeros(count, np.uint8),
            draw.integers(0, len(NAMES), count).astype(np.uint8),
        )  # fmt: skip
        _, size = write_lines(drafts, 0, self._texts, self._out)
        return vary(self._out[:size], draw)


async def pace(place: Place, rate: int, seconds: float) -> dict[str, float]:
    """Send ``rate`` events a second for ``seconds``."""
    count, ticks = rate * TICK_MS // 1000, batches(seconds)
    assert ticks <= MOST_NEWCOMERS, "there are not so many newcomers"
    written = Ticks(count)
    written.lines(0, 0)  # compiled, or loaded from the cache, before time counts
    producer = EventProducer(place.connections, PARTITIONS, "lz4", place.settings().kafka.client_options())
    await producer.start()
    late_most_s = 0.0
    first_ms = int((time.time() + LEAD_S) * 1000)
    try:
        for tick in range(ticks):
            due_ms = first_ms + tick * TICK_MS
            await asyncio.sleep(due_ms / 1000 - time.time())
            late_most_s = max(late_most_s, time.time() - due_ms / 1000)
            await producer.send(written.lines(tick, due_ms))
        took_s = time.time() - first_ms / 1000
    finally:
        await producer.stop()
    return {
        "events": producer.produced.events,
        "newcomers": ticks,
        "first_ms": first_ms,
        "events_per_s": producer.produced.events / max(took_s, ticks * TICK_MS / 1000),
        "late_most_ms": late_most_s * 1000,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    chosen = parser.parse_args()
    uvloop.install()
    print(json.dumps(asyncio.run(pace(Place(chosen.bootstrap, chosen.prefix), chosen.rate, chosen.seconds))))


if __name__ == "__main__":
    main()
