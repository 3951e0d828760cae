"""Topics of contenders: made, read back, deleted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.contest.oracle import Decided
from benchmarks.harness.cluster import PARTITIONS, SETTLE_S

T = TypeVar("T")
FOREVER = {"retention.ms": "-1"}


def _asked(bootstrap: str, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    """What the broker's administration answers."""

    async def ask() -> T:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            return await question(admin)
        finally:
            await admin.close()

    return asyncio.run(ask())


def create(bootstrap: str, name: str) -> None:
    """Make a topic of `PARTITIONS` partitions that keeps all it gets, if it isn't there."""

    async def make(admin: AIOKafkaAdminClient) -> None:
        if name not in await admin.list_topics():
            await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=FOREVER)])
        await _until(admin, lambda names: name in names)

    _asked(bootstrap, make)


def delete(bootstrap: str, prefix: str) -> None:
    """Delete all topics whose names begin so, or so behind Quix's own prefix."""

    async def remove(admin: AIOKafkaAdminClient) -> None:
        names = [name for name in await admin.list_topics() if name.startswith((prefix, f"changelog__{prefix}"))]
        if names:
            await admin.delete_topics(names)
            await _until(admin, lambda left: not set(names) & left)

    _asked(bootstrap, remove)


async def _until(admin: AIOKafkaAdminClient, reached: Callable[[set[str]], bool]) -> None:
    deadline_s = time.monotonic() + SETTLE_S
    while not reached(set(await admin.list_topics())):
        assert time.monotonic() < deadline_s, "the broker doesn't show what was done to its topics"
        await asyncio.sleep(0.1)


def decided(bootstrap: str, topic: str) -> Counter[Decided]:
    """Every decision on a topic."""
    return asyncio.run(_decided(bootstrap, topic))


async def _decided(bootstrap: str, topic: str) -> Counter[Decided]:
    found: Counter[Decided] = Counter()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        last = await consumer.end_offsets(tps)
        for tp in tps:
            while await consumer.position(tp) < last[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, []):
                    found[Decided(**orjson.loads(record.value))] += 1
    finally:
        await consumer.stop()
    return found
