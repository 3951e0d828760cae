"""The topics of one case on a broker: created, filled, emptied between runs, read back.

Each case has topics of its own, under a prefix. Between two runs of the engine its output topics are deleted and created
again, and it gets a new app id: every run starts from nothing on the same events.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import confluent_kafka
import orjson
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from engine.config.load import Settings, load_settings
from engine.config.options import WorkerOptions
from engine.kafka.event_producer import EventProducer, Produced
from engine.kafka.follow import BULK_RECORDS, TopicReader
from engine.kafka.topic_admin import contracts_of, ensure
from engine.pipeline.build import partition
from engine.worker.changelog import restore
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, STATE, UNLIMITED
from topics.decisions import RELEASE_HEADER
from topics.keys import key_text
from topics.partitioner import partition_of

T = TypeVar("T")
PARTITIONS = 4
OUTPUTS = (DECISIONS.name, DEAD_LETTERS.name, STATE.name)
SETTLE_S = 30.0
INHERITED = ("TIDEGATE_CACHE_DIR",)  # of the caller's TIDEGATE_ variables


class Chunked(Protocol):
    """Events as chunks of whole lines; every iteration gives the same bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Return all chunks."""
        ...


@dataclass(frozen=True)
class TopicSpace:
    """Topics under a prefix on one broker."""

    bootstrap: str
    prefix: str
    rows: int = WorkerOptions().rows_per_partition  # senders that a partition can know
    partitions: int = PARTITIONS

    @property
    def connections(self) -> str:
        """Return the name of the connections topic."""
        return self.prefix + CONNECTIONS.name

    def environment(self, app_id: str = "bench", **more: str) -> dict[str, str]:
        """Return variables for the project's commands: these topics and ``more``, but none of the caller's own options."""
        ours = {
            "TIDEGATE_KAFKA_BOOTSTRAP": self.bootstrap,
            "TIDEGATE_TOPICS_PREFIX": self.prefix,
            "TIDEGATE_TOPICS_PARTITIONS": str(self.partitions),
            "TIDEGATE_TOPICS_RETENTION_MS": str(UNLIMITED),
            "TIDEGATE_WORKER_APP_ID": app_id,
            "TIDEGATE_WORKER_ROWS_PER_PARTITION": str(self.rows),
            "TIDEGATE_LOG_LEVEL": "warning",
            "TIDEGATE_WORKER_HTTP": "",
            "TIDEGATE_MODEL_LEARNING_DAYS": "0",  # so that there are decisions to compare
            **more,
        }
        return clean_environment() | ours

    def settings(self) -> Settings:
        """Return the settings that `environment` leads to."""
        return load_settings(None, self.environment(), {})


def clean_environment() -> dict[str, str]:
    """Return the caller's environment without its TIDEGATE_ options."""
    return {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_") or name in INHERITED}


def make_topics(space: TopicSpace) -> None:
    """Create the topics that are missing."""
    settings = space.settings()
    asyncio.run(ensure(space.bootstrap, contracts_of(settings), settings.kafka.client_options()))


def delete_topics(space: TopicSpace, names: Iterable[str]) -> None:
    """Delete topics, by names without the prefix, and wait until they are gone."""
    wanted = {space.prefix + name for name in names}
    _administer(space.bootstrap, lambda admin: _delete(admin, wanted))


def delete_all(space: TopicSpace) -> None:
    """Delete the events and all outputs."""
    delete_topics(space, [CONNECTIONS.name, *OUTPUTS])


def empty_outputs(space: TopicSpace) -> None:
    """Remove what an engine has written: decisions, dead letters, state."""
    delete_topics(space, OUTPUTS)
    make_topics(space)


def create_topic(bootstrap: str, name: str) -> None:
    """Create a topic of `PARTITIONS` partitions without retention, if it is missing."""

    async def create(admin: AIOKafkaAdminClient) -> None:
        if name not in await admin.list_topics():
            await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs={"retention.ms": "-1"})])
        await _wait_until(admin, lambda names: name in names)

    _administer(bootstrap, create)


def delete_prefixed(bootstrap: str, prefix: str) -> None:
    """Delete all topics whose names begin with the prefix, or with Quix's own prefix and then this one."""

    async def delete(admin: AIOKafkaAdminClient) -> None:
        prefixes = (prefix, f"changelog__{prefix}")
        await _delete(admin, {name for name in await admin.list_topics() if name.startswith(prefixes)})

    _administer(bootstrap, delete)


def _administer(bootstrap: str, request: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    async def connected() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            return await request(admin)
        finally:
            await admin.close()

    return asyncio.run(connected())


async def _delete(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    if names:
        await admin.delete_topics(sorted(names))
        await _wait_until(admin, lambda left: not names & left)


async def _wait_until(admin: AIOKafkaAdminClient, is_reached: Callable[[set[str]], bool]) -> None:
    deadline_s = time.monotonic() + SETTLE_S
    while not is_reached(set(await admin.list_topics())):
        assert time.monotonic() < deadline_s, "the broker doesn't show the change of its topics"
        await asyncio.sleep(0.1)


def fill(space: TopicSpace, events: Chunked, codec: str = "lz4") -> Produced:
    """Send all events to the connections topic."""

    async def send() -> Produced:
        options = space.settings().kafka.client_options()
        producer = EventProducer(space.connections, space.partitions, codec, options)
        await producer.start()
        try:
            for text in events.chunks():
                await producer.send(text)
        finally:
            await producer.stop()
        return producer.produced

    return asyncio.run(send())


def last_offsets(space: TopicSpace) -> dict[int, int]:
    """Return the offset of the last event of each partition."""

    async def read() -> dict[int, int]:
        async with TopicReader([space.connections], {"bootstrap_servers": space.bootstrap}) as reader:
            assert not any(reader.first.values()), "the broker has deleted events: nothing can be compared"
            return {tp.partition: end - 1 for tp, end in reader.ends.items()}

    return asyncio.run(read())


def records_of(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """Return every record of a topic, in the order of each partition."""

    async def read() -> list[ConsumerRecord]:
        options = {"bootstrap_servers": bootstrap}
        async with TopicReader([topic], options, until_end=True, max_records=BULK_RECORDS) as reader:
            return [record async for records in reader for record in records]

    return asyncio.run(read())


def published(space: TopicSpace) -> list[tuple[bytes, bytes]]:
    """Return every record of the decisions topic as (key, JSON): the value of a throttle, the header of a release."""
    found = records_of(space.bootstrap, space.prefix + DECISIONS.name)
    return [(record.key, decision_text(record.value, record.headers)) for record in found]


def decision_text(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the JSON of a record on the decisions topic."""
    return value if value is not None else dict(headers)[RELEASE_HEADER]


def send_event(producer: confluent_kafka.Producer, space: TopicSpace, key: int, messages: int) -> None:
    """Queue an event of a sender, of the current time; BufferError if the producer's queue is full."""
    text, time_ms = key_text(key), int(time.time() * 1000)
    event = orjson.dumps({"ts": time_ms, "ip": text.removesuffix("/64"), "messages": messages})
    partition = partition_of(text.encode(), space.partitions)
    producer.produce(space.connections, event, key=text.encode(), partition=partition, timestamp=time_ms)


def publish_throttles(space: TopicSpace, networks: Iterable[str], lasts_ms: int) -> None:
    """Write active decisions that no worker has made to the decisions topic."""
    options = {"bootstrap.servers": space.bootstrap, "linger.ms": 50, "compression.type": "lz4"}
    producer = confluent_kafka.Producer(
        options | {"queue.buffering.max.messages": 0, "queue.buffering.max.kbytes": 2 << 20}
    )
    now_ms = int(time.time() * 1000)
    reply = {"code": 451, "status": "4.7.500", "tag": "AS10000001", "text": "Server busy."}
    figures = {"counters": {"24h": 293.0}, "limits": {"24h": 292.5}, "peaks": {"24h": 87.0}, "active_days": 24}
    for number, network in enumerate(networks):
        decision = {
            "network": network, "verdict": "throttle", "issued": now_ms, "until": now_ms + lasts_ms, "rate_per_min": 0.2,
            "burst": 12.0, "reason": "volume", "reply": reply, "evidence": {"scales": ["24h"], **figures},
            "source": {"topic": "elsewhere", "partition": 0, "offset": number}, "model": "none", "config": "none", "v": 1,
        }  # fmt: skip
        producer.produce(space.prefix + DECISIONS.name, orjson.dumps(decision), key=network)
        producer.poll(0)
    producer.flush(120)


def saved_counts(space: TopicSpace) -> dict[str, int]:
    """Return the events and keys in the state changelog, read back as a restarted worker would."""

    async def read() -> dict[str, int]:
        settings, counts = space.settings(), {"events": 0, "keys": 0}
        for number in range(space.partitions):
            restored = partition(settings, number)
            await restore(restored, space.prefix + STATE.name, settings.kafka.client_options())
            counts["events"] += int(restored.state.site["events"][0])
            counts["keys"] += restored.keys
        return counts

    return asyncio.run(read())
