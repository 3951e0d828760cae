"""A plain loop around confluent-kafka: no framework, a dict, orjson, and its own exactly-once changelog.

Every checkpoint writes the changed senders and the consumer's offsets in one transaction; a start reads the changelog back.
Decisions are sent immediately, outside of it. Tuned: thousands of messages per call; `fetch.queue.backoff.ms` (a second by
default) doesn't stall a partition whose queue was full; the queue has room for fetches of 4 MiB.
"""

from __future__ import annotations

import time
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.peers.job import State, Tally, arguments, decision, fresh, report_ready, take

BATCH, WAIT_S = 10_000, 0.05
FETCH = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "fetch.queue.backoff.ms": 2,
    "fetch.message.max.bytes": 4 << 20,
    "fetch.wait.max.ms": 20,
    "queued.max.messages.kbytes": 128 << 10,
}


class Loop:
    """Consumer, state and producers."""

    def __init__(self, chosen: Any) -> None:
        self._chosen = chosen
        self._changelog = f"{chosen.group}-changelog"
        self.tally = Tally(chosen.events)
        self.senders: dict[bytes, State] = {}  # by record key
        self.changed: set[bytes] = set()  # since the last checkpoint
        shared = {"bootstrap.servers": chosen.bootstrap}
        self.consumer = Consumer({**shared, **FETCH, "group.id": chosen.group})
        self.decisions = Producer({**shared, "linger.ms": 5})
        self._state = Producer(
            {
                **shared, "transactional.id": chosen.group, "compression.type": "lz4", "linger.ms": 20,
                "batch.size": 1 << 20, "queue.buffering.max.messages": 2_000_000, "queue.buffering.max.kbytes": 1 << 20,
            }
        )  # fmt: skip

    def restore(self) -> None:
        """Read the changelog to its end; create it if it is missing."""
        admin = AdminClient({"bootstrap.servers": self._chosen.bootstrap})
        if self._changelog not in admin.list_topics().topics:
            compact = NewTopic(self._changelog, 1, 1, config={"cleanup.policy": "compact"})
            admin.create_topics([compact])[self._changelog].result()
        reader = Consumer(
            {
                "bootstrap.servers": self._chosen.bootstrap, **FETCH, "group.id": f"{self._chosen.group}-restore",
                "enable.partition.eof": True,
            }
        )  # fmt: skip
        reader.assign([TopicPartition(self._changelog, 0, 0)])
        ended = False
        while not ended:
            messages: list[Any] = reader.consume(BATCH, 1.0)
            for message in messages:
                ended |= message.error() is not None
                if message.error() is None:
                    self.senders[message.key()] = orjson.loads(message.value())
        reader.close()
        self._state.init_transactions()

    def apply(self, messages: list[Any]) -> bool:
        """Apply a batch; return True if it was the last one."""
        senders, changed, tally, loads = self.senders, self.changed, self.tally, orjson.loads
        if messages:
            tally.begin()
        for message in messages:
            key, event = message.key(), loads(message.value())
            ts = event["ts"]
            state = senders.get(key)
            if state is None:
                state = senders[key] = fresh(ts)
                tally.keys += 1
            changed.add(key)
            count = take(state, ts, event.get("messages", 1), tally)
            if count:
                self.decisions.produce(self._chosen.decisions, decision(key.decode(), count, ts), key)
        self.decisions.poll(0)
        return bool(messages) and tally.add(len(messages))

    def checkpoint(self) -> None:
        """Save the changed senders and the consumer's offsets."""
        self._state.begin_transaction()
        for key in self.changed:
            self._state.produce(self._changelog, orjson.dumps(self.senders[key]), key)
        self.changed.clear()
        positions = self.consumer.position(self.consumer.assignment())
        self._state.send_offsets_to_transaction(
            [position for position in positions if position.offset >= 0], self.consumer.consumer_group_metadata()
        )
        self._state.commit_transaction()

    def run(self) -> None:
        """Run until all events are applied and saved."""
        self.restore()
        self.consumer.subscribe([self._chosen.topic], on_assign=lambda *_: report_ready())
        due_s, complete = time.monotonic(), False
        while not complete:
            complete = self.apply(self.consumer.consume(BATCH, WAIT_S))
            if complete or time.monotonic() > due_s + self._chosen.checkpoint_ms / 1000:
                due_s = time.monotonic()
                self.checkpoint()
        self.decisions.flush()
        self.consumer.close()


def main() -> None:
    """Run the command line."""
    loop = Loop(arguments(__doc__))
    loop.run()
    loop.tally.report()


if __name__ == "__main__":
    main()
