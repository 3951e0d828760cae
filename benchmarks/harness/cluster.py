"""Topics of a benchmark on its broker: made, filled, emptied of what a run left, and read back.

Each case has topics of its own (a prefix). Between two runs of the engine its output topics are deleted and made again, and
it gets a new app id: every run starts from nothing on the same events.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.harness.workload import Chunked
from engine.config.load import Settings, load_settings
from engine.config.options import WorkerOptions
from engine.kafka.event_producer import EventProducer, Produced
from engine.kafka.topic_admin import MISSING, differences, ensure
from engine.pipeline.build import partition
from engine.service.worker import contracted
from engine.worker.changelog import restore
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, STATE, UNLIMITED
from topics.decisions import RELEASE_HEADER

PARTITIONS = 4
OUTPUTS = (DECISIONS.name, DEAD_LETTERS.name, STATE.name)
SETTLE_S = 30.0
KEPT_VARIABLES = ("TIDEGATE_CACHE_DIR",)


@dataclass(frozen=True)
class Place:
    """Topics under a ``prefix`` on the broker at ``bootstrap``; ``rows``: senders that a partition can know."""

    bootstrap: str
    prefix: str
    rows: int = WorkerOptions().rows_per_partition

    @property
    def connections(self) -> str:
        """The name of the connections topic."""
        return self.prefix + CONNECTIONS.name

    def environment(self, app_id: str = "bench", **more: str) -> dict[str, str]:
        """Environment for the project's commands: this place, ``more`` options, and no option of the caller's own."""
        ours = {
            "TIDEGATE_KAFKA_BOOTSTRAP": self.bootstrap,
            "TIDEGATE_TOPICS_PREFIX": self.prefix,
            "TIDEGATE_TOPICS_PARTITIONS": str(PARTITIONS),
            "TIDEGATE_TOPICS_RETENTION_MS": str(UNLIMITED),
            "TIDEGATE_WORKER_APP_ID": app_id,
            "TIDEGATE_WORKER_ROWS_PER_PARTITION": str(self.rows),
            "TIDEGATE_LOG_LEVEL": "warning",
            "TIDEGATE_WORKER_HTTP": "",
            "TIDEGATE_MODEL_LEARNING_DAYS": "0",  # so that there are decisions to compare
            **more,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        return inherited | {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | ours

    def settings(self) -> Settings:
        """The settings that `environment` leads to."""
        return load_settings(None, self.environment(), {})


def make_topics(place: Place) -> None:
    """Create what is missing and wait until the broker says that it is there."""
    asyncio.run(_make(place))


async def _make(place: Place) -> None:
    settings = place.settings()
    options, topics = settings.kafka.client_options(), contracted(settings)
    await ensure(place.bootstrap, topics, options)
    deadline_s = time.monotonic() + SETTLE_S
    while any(finding.kind == MISSING for finding in await differences(place.bootstrap, topics, options)):
        assert time.monotonic() < deadline_s, "the broker doesn't show the topics it has made"
        await asyncio.sleep(0.1)


def delete_topics(place: Place, names: Iterable[str]) -> None:
    """Delete topics (bare names) and wait until they are gone."""
    asyncio.run(_delete(place, [place.prefix + name for name in names]))


async def _delete(place: Place, names: Sequence[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
        deadline_s = time.monotonic() + SETTLE_S
        while set(names) & set(await admin.list_topics()):
            assert time.monotonic() < deadline_s, "the broker doesn't delete its topics"
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


def empty_outputs(place: Place) -> None:
    """Forget what an engine has written: decisions, dead letters, state."""
    delete_topics(place, OUTPUTS)
    make_topics(place)


def fill(place: Place, workload: Chunked, codec: str) -> tuple[Produced, float]:
    """Send the workload to the connections topic; what was sent, and the seconds it took."""
    return asyncio.run(_fill(place, workload, codec))


async def _fill(place: Place, workload: Chunked, codec: str) -> tuple[Produced, float]:
    producer = EventProducer(place.connections, PARTITIONS, codec, place.settings().kafka.client_options())
    started_s = time.monotonic()
    await producer.start()
    try:
        for text in workload.chunks():
            await producer.send(text)
    finally:
        await producer.stop()
    return producer.produced, time.monotonic() - started_s


def ends(place: Place) -> dict[int, int]:
    """The end offset of each partition of the connections."""
    return asyncio.run(_ends(place))


async def _ends(place: Place) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=place.bootstrap)
    await consumer.start()
    try:
        tps = [TopicPartition(place.connections, number) for number in range(PARTITIONS)]
        first, last = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    finally:
        await consumer.stop()
    assert not any(first.values()), "the broker has deleted events: nothing can be compared"
    return {tp.partition: last[tp] for tp in tps}


def published(place: Place) -> list[tuple[bytes, bytes]]:
    """Every record of the decisions topic as (key, JSON): a throttle's value, a release's header."""
    return asyncio.run(_published(place))


async def _published(place: Place) -> list[tuple[bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: list[tuple[bytes, bytes]] = []
    try:
        tps = [TopicPartition(place.prefix + DECISIONS.name, number) for number in range(DECISIONS.partitions)]
        consumer.assign(tps)
        last = await consumer.end_offsets(tps)
        for tp in tps:
            while await consumer.position(tp) < last[tp]:
                fetched = (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
                found += [(record.key, decision_text(record.value, record.headers)) for record in fetched]
    finally:
        await consumer.stop()
    return found


def decision_text(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The JSON of a record on the decisions topic."""
    return value if value is not None else dict(headers)[RELEASE_HEADER]


def saved_counts(place: Place) -> Mapping[str, int]:
    """Events and keys that the state changelog holds, read back as a restarted worker would."""
    return asyncio.run(_saved_counts(place))


async def _saved_counts(place: Place) -> dict[str, int]:
    settings, counts = place.settings(), {"events": 0, "keys": 0}
    for number in range(PARTITIONS):
        restored = partition(settings, number)
        await restore(restored, place.prefix + STATE.name, settings.kafka.client_options())
        counts["events"] += int(restored.state.site["events"][0])
        counts["keys"] += restored.keys
    return counts
