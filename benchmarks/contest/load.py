"""Open load in a process of its own: events at a rate that rises by levels, each with the time at which it was due.

A batch is sent every 10 ms, however late the last one was. All its senders but one are regulars. The other one, the batch's
probe, is new: it has one message in each of the last three minutes, and then a thousand at the same time, so that its last
event must lead to a decision, by the job's rule as by Tidegate's. Prints a JSON line when the first batch is due, one after
each level (events sent, and how late they were), and one at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import numpy as np
import uvloop

from benchmarks.harness.topic_space import TopicSpace
from benchmarks.harness.traffic import MTA_NAMES, LineWriter, Traffic
from engine.kafka.event_producer import EventProducer
from topics.columns.keys import IPV4_TAG
from topics.columns.write import Drafts

TICK_MS = 10
FIRST_PROBE = 0xC6120000  # 198.18.0.0/15, set aside for benchmarks
MOST_PROBES = 1 << 17
PAST_MS = (180_000, 120_000, 60_000, 0)
PROBE_MESSAGES = 1000
LEAD_S = 0.5  # before the first batch is due


def probe(tick: int) -> int:
    """Return the IPv4 address of the probe in batch ``tick``."""
    return FIRST_PROBE + tick


def ticks_of(seconds: float) -> int:
    """Return the batches in so many seconds."""
    return round(seconds * 1000) // TICK_MS


class Batches:
    """Writes the lines of one batch after the other, at most ``most`` events each, of so many regulars."""

    def __init__(self, most: int, regulars: int) -> None:
        self._draw = np.random.default_rng(1)
        self._regulars = Traffic(0, regulars, ipv6_share=0.0).senders
        self._writer = LineWriter(most + 1)

    def lines(self, tick: int, ts_ms: int, count: int) -> bytes:
        """Return batch ``tick``: ``count`` events, the probe's four at the end."""
        draw, past = self._draw, np.array(PAST_MS)
        keys = self._regulars[draw.integers(0, len(self._regulars), count)]
        messages, times_ms = np.ones(count, np.int32), np.full(count, ts_ms)
        keys[-len(past) :], times_ms[-len(past) :] = IPV4_TAG | np.uint64(probe(tick)), ts_ms - past
        messages[-1] = PROBE_MESSAGES
        mta = draw.integers(0, len(MTA_NAMES), count).astype(np.uint8)
        drafts = Drafts(times_ms, keys, np.zeros(count, np.uint64), messages, np.zeros(count, np.uint8), mta)
        return self._writer.write(drafts, draw)


async def load(space: TopicSpace, rates: Sequence[int], level_s: float, regulars: int) -> None:
    """Send each of the ``rates`` (events per second) for ``level_s``."""
    ticks = ticks_of(level_s)
    assert ticks * len(rates) <= MOST_PROBES, "there are not so many probes"
    batches = Batches(max(rates) * TICK_MS // 1000, regulars)
    batches.lines(0, 0, len(PAST_MS))  # compiled, or loaded from the cache, before time counts
    producer = EventProducer(space.connections, space.partitions, "lz4", space.settings().kafka.client_options())
    await producer.start()
    await producer.send(b'{"ts":%d,"ip":"192.0.2.1"}\n' % int(time.time() * 1000))  # its kernels too
    await producer.flush()
    first_ms = int((time.time() + LEAD_S) * 1000)
    report(first_ms=first_ms)
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
            report(rate=rate, events=producer.produced.events - before, late_ms=late_s * 1000)
    finally:
        await producer.stop()
    report(events=producer.produced.events, probes=tick)


def report(**figures: float) -> None:
    """Print a line."""
    print(json.dumps(figures), flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--rates", type=int, nargs="+", required=True)
    parser.add_argument("--level-s", type=float, required=True)
    parser.add_argument("--regulars", type=int, required=True)
    chosen = parser.parse_args()
    uvloop.install()
    asyncio.run(load(TopicSpace(chosen.bootstrap, chosen.prefix), chosen.rates, chosen.level_s, chosen.regulars))


if __name__ == "__main__":
    main()
