"""Stock faust-streaming with river: an agent, a table with its changelog, river's averages in it, as in Faust's guide.

No part of Tidegate is in it: Faust's own transport, one event at a time, and for each a write to the table, which is one
record of the changelog. Values are plain dicts (records are a sixth slower), uvloop runs the loop, the log is empty.
``--store dict`` uses a dict instead of the table; a crash loses its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from typing import Any

import faust
import uvloop
from river import stats

from benchmarks.peers.job import FLOOR, LEAST_WINDOWS, SIGMAS, WINDOW_MS, Tally, arguments, decision, report_ready

WEIGHT = 0.125
PARTITIONS = 4
END_S = 10.0


class Sender(faust.Record, serializer="pickle"):
    """The state of one sender."""

    window_ms: int
    mean: Any
    variance: Any
    count: int = 0
    decided: bool = False
    windows: int = 0

    def take(self, ts: int, messages: int, tally: Tally) -> int:
        """Apply an event; return the count of a decision, 0 without one."""
        window_ms = ts - ts % WINDOW_MS
        if window_ms < self.window_ms:
            tally.late += 1
            return 0
        if window_ms > self.window_ms:
            tally.windows += 1
            tally.squares += self.count * self.count
            self.mean.update(self.count)
            self.variance.update(self.count)
            self.windows += 1
            self.window_ms, self.count, self.decided = window_ms, 0, False
        self.count += messages
        if self.count <= FLOOR or self.windows < LEAST_WINDOWS or self.decided:
            return 0
        spread = math.sqrt(max(0.0, self.variance.get()))
        self.decided = self.count > self.mean.get() + SIGMAS * spread + FLOOR
        tally.decisions += self.decided
        return self.count if self.decided else 0


def create_app(chosen: Any, tally: Tally, complete: asyncio.Event) -> faust.App:
    """Return the app; ``complete`` is set once the tally is."""
    app = faust.App(
        chosen.group, broker=f"kafka://{chosen.bootstrap}", datadir=chosen.folder, value_serializer="json",
        consumer_auto_offset_reset="earliest", broker_commit_interval=chosen.checkpoint_ms / 1000,
        topic_partitions=PARTITIONS, topic_replication_factor=1, topic_disable_leader=True, web_enabled=False,
        producer_compression_type="lz4", producer_linger_ms=20, producer_max_batch_size=256 << 10,
        broker_max_poll_records=10_000, stream_buffer_maxsize=16_384,
    )  # fmt: skip
    connections = app.topic(chosen.topic, key_type=bytes)
    decisions = app.topic(chosen.decisions, value_serializer="raw")
    senders: Any = {}
    if chosen.store != "dict":
        senders = app.Table("senders", partitions=PARTITIONS, key_type=bytes, value_type=Sender)

    @app.agent(connections)
    async def judge(stream: Any) -> None:
        async for key, event in stream.items():
            tally.begin()
            ts = event["ts"]
            sender = senders.get(key)
            if sender is None:
                sender = Sender(ts - ts % WINDOW_MS, stats.EWMean(WEIGHT), stats.EWVar(WEIGHT))
                tally.keys += 1
            count = sender.take(ts, event.get("messages", 1), tally)
            senders[key] = sender
            if count:
                await decisions.send(key=key, value=decision(key.decode(), count, ts))
            if tally.add():
                complete.set()

    return app


async def run(chosen: Any) -> Tally:
    """Run until all events are applied."""
    tally, complete = Tally(chosen.events), asyncio.Event()
    app = create_app(chosen, tally, complete)
    await app.start()
    report_ready()
    await complete.wait()
    await app.producer.flush()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(app.stop(), END_S)
    return tally


def main() -> None:
    """Run the command line."""
    chosen = arguments(__doc__)
    uvloop.install()
    asyncio.set_event_loop(asyncio.new_event_loop())
    asyncio.get_event_loop().run_until_complete(run(chosen)).report()
    os._exit(0)  # its threads may never end


if __name__ == "__main__":
    main()
