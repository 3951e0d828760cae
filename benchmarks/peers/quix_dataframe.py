"""Quix Streams: a streaming dataframe with a stateful function, state in RocksDB with a changelog topic.

Its own defaults, except the commit interval and librdkafka's `fetch.queue.backoff.ms`, which stalls a full queue for a second.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application

from benchmarks.peers.job import Tally, arguments, decision, fresh, report_ready, take

CONSUMER = {"fetch.queue.backoff.ms": 2, "fetch.message.max.bytes": 4 << 20, "queued.max.messages.kbytes": 128 << 10}
PRODUCER = {"compression.type": "lz4", "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}


def main() -> None:
    """Run the command line."""
    chosen = arguments(__doc__)
    tally = Tally(chosen.events)
    app = Application(
        broker_address=chosen.bootstrap, consumer_group=chosen.group, auto_offset_reset="earliest", state_dir=chosen.folder,
        commit_interval=chosen.checkpoint_ms / 1000, consumer_extra_config=CONSUMER, producer_extra_config=PRODUCER,
        loglevel="WARNING",
    )  # fmt: skip

    def judge(event: Any, key: bytes, _timestamp: int, _headers: Any, state: Any) -> bytes | None:
        tally.begin()
        ts = event["ts"]
        sender = state.get("sender")
        if sender is None:
            sender = fresh(ts)
            tally.keys += 1
        count = take(sender, ts, event.get("messages", 1), tally)
        state.set("sender", sender)
        if tally.add():
            app.stop()
        return decision(key.decode(), count, ts) if count else None

    connections = app.topic(chosen.topic, value_deserializer="json")
    decisions = app.topic(chosen.decisions, value_serializer="bytes")
    decided = app.dataframe(connections).apply(judge, stateful=True, metadata=True)
    decided[decided.apply(lambda value: value is not None)].to_topic(decisions)
    report_ready()
    app.run()
    tally.report()


if __name__ == "__main__":
    main()
