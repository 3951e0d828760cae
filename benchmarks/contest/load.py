"""Open load in a process of its own: events at a rate that rises by levels, stamped with the time at which they were due.

Every 10 ms a batch goes out, however late the last one was. All its senders but one are regulars; that one, the batch's
probe, was never seen before: it has one message in each of the last three minutes, and then a thousand at once, so that its
last event must lead to a decision, by the job's rule as by Tidegate's. Prints a JSON line when the first batch is due, one
after each level (what was sent, and how late it was), and one at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import numpy as np
import uvloop

from benchmarks.harness.cluster import PARTITIONS, Place
from benchmarks.harness.workload import BEHIND_IPV4, FIRST_IPV4, NAMES, TAIL, vary
from engine.kafka.event_producer import EventProducer
from topics.columns.keys import IPV4_TAG
from topics.columns.write import LINE_ROOM, Drafts, texts, write_lines

TICK_MS = 10
REGULARS = 200_000
FIRST_PROBE = 0xC6120000  # 198.18.0.0/15, set aside for benchmarks
MOST_PROBES = 1 << 17
PAST_MS = (180_000, 120_000, 60_000, 0)
PROBE_MESSAGES = 1000
LEAD_S = 0.5  # before the first batch is due


def probe(tick: int) -> int:
    """The IPv4 address of the probe in batch ``tick``."""
    return FIRST_PROBE + tick


def ticks_of(seconds: float) -> int:
    """Batches in so many seconds."""
    return round(seconds * 1000) // TICK_MS


class Batches:
    """Writes the lines of one batch after the other, at most ``most`` events each; ``regulars`` senders."""

    def __init__(self, most: int, regulars: int) -> None:
        self._texts = texts(NAMES, TAIL)
        line_octets = LINE_ROOM + len(self._texts.names) + len(self._texts.tail)
        self._draw = np.random.default_rng(1)
        addresses = self._draw.choice(BEHIND_IPV4 - FIRST_IPV4, regulars, replace=False)
        self._regulars = IPV4_TAG | addresses.astype(np.uint64)
        self._out = np.empty((most + 1) * line_octets, np.uint8)

    def lines(self, tick: int, ts_ms: int, count: int) -> bytes:
        """The lines of batch ``tick``: ``count`` events, the probe's four at the end."""
        draw = self._draw
        keys = self._regulars[draw.integers(0, len(self._regulars), count)]
        messages, stamps = np.ones(count, np.int32), np.full(count, ts_ms)
        past = np.array(PAST_MS)
        keys[-len(past) :], stamps[-len(past) :], messages[-1] = (
            IPV4_TAG | np.uint64(probe(tick)),
            ts_ms - past,
            PROBE_MESSAGES,
        )
        drafts = Drafts(
            stamps, keys, np.zeros(count, np.uint64), messages, np.zeros(count, np.uint8),
            draw.integers(0, len(NAMES), count).astype(np.uint8),
        )  # fmt: skip
        _, size = write_lines(drafts, 0, self._texts, self._out)
        return vary(self._out[:size], draw)


async def load(place: Place, rates: Sequence[int], level_s: float, regulars: int) -> None:
    """Send each of the ``rates`` (events a second) for ``level_s``."""
    ticks = ticks_of(level_s)
    assert ticks * len(rates) <= MOST_PROBES, "there are not so many probes"
    batches = Batches(max(rates) * TICK_MS // 1000, regulars)
    batches.lines(0, 0, len(PAST_MS))  # compiled, or loaded from the cache, before time counts
    producer = EventProducer(place.connections, PARTITIONS, "lz4", place.settings().kafka.client_options())
    await producer.start()
    await producer.send(b'{"ts":%d,"ip":"192.0.2.1"}\n' % int(time.time() * 1000))  # its kernels too
    await producer.settled()
    first_ms = int((time.time() + LEAD_S) * 1000)
    say(first_ms=first_ms)
    tick = 0
    try:
        for rate in rates:
            late_s, before = 0.0, producer.produced.events
            for _ in range(ticks):
                due_ms = first_ms + tick * TICK_MS
                await asyncio.sleep(due_ms / 1000 - time.time())
                late_s = max(0.0, time.time() - due_ms / 1000)
                await producer.send(batches.lines(tick, due_ms, rate * TICK_MS // 1000))
                tick += 1
            say(rate=rate, events=producer.produced.events - before, late_ms=late_s * 1000)
    finally:
        await producer.stop()
    say(events=producer.produced.events, probes=tick)


def say(**told: float) -> None:
    """A line."""
    print(json.dumps(told), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--rates", type=int, nargs="+", required=True)
    parser.add_argument("--level-s", type=float, required=True)
    parser.add_argument("--regulars", type=int, default=REGULARS)
    chosen = parser.parse_args()
    uvloop.install()
    place = Place(chosen.bootstrap, chosen.prefix)
    asyncio.run(load(place, chosen.rates, chosen.level_s, chosen.regulars))


if __name__ == "__main__":
    main()
