"""A block applier with one partition and a publisher that records, without Kafka; and blocks of events for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import numpy as np

from engine.decisions.compose import Composer, ReplyTexts
from engine.decisions.override_index import KEPT_MS, OverrideIndex
from engine.decisions.publish_gate import PublishGate
from engine.detector.throttle import Policy
from engine.kafka.blocks import Block
from engine.kafka.decompress import Workspace
from engine.state.encode import Cut
from engine.state.partition import Partition
from engine.worker.apply import BlockApplier
from engine.worker.prefetch import EventBlock, read_block
from engine.worker.replicas import Replica
from engine.worker.shard import Shard
from tests.support.fetches import Sent, at_offset, by_aiokafka
from tests.support.kernels import byte_array
from tests.support.sequences import DAY_MS, OUTCOMES, Event, rich_sequence
from topics.columns.batches import BATCH, find_batches
from topics.decisions import POOL, PROBATION, VOLUME, Decision, Source, encode_decision
from topics.events import ConnectionEvent, encode_event
from topics.keys import key_text

COMPOSER = Composer(
    "connections", "sha256:00", ReplyTexts({VOLUME: "4.7.500", PROBATION: "4.7.501", POOL: "4.7.502"}, "{ip}")
)
ROWS, NUMBER = 4096, 2


def event_line(event: Event) -> bytes:
    """Return the event's JSON."""
    ip = key_text(event.key).removesuffix("/64")
    messages = event.messages
    return encode_event(ConnectionEvent(event.ts_ms, ip, "", messages, messages, OUTCOMES[event.outcome]))


def consecutive(seed: int, count: int) -> list[Event]:
    """Return events as a topic has them: consecutive offsets, each record with a time of its own."""
    return [
        event._replace(offset=i, record_ms=event.ts_ms if event.record_ms < 0 else event.record_ms)
        for i, event in enumerate(rich_sequence(seed, count))
    ]


EVENTS = consecutive(5, 3000)


def batch_of(events: Sequence[Event], codec: str = "none") -> bytes:
    """Return the events as one record batch."""
    sent = [Sent(event.record_ms, None, event_line(event)) for event in events]
    return at_offset(by_aiokafka(sent, codec), events[0].offset)


def block_of(raw: bytes, first_offset: int = 0) -> Block:
    """Return a fetch of these batches as a block."""
    batches = np.zeros(256, BATCH)
    count, _ = find_batches(byte_array(raw), 0, True, batches)
    last = int(batches["last_offset"][count - 1])
    return Block("connections", NUMBER, first_offset, last, raw, batches[:count])


def event_block(raw: bytes, first_offset: int = 0, workspace: Workspace | None = None) -> EventBlock:
    """Return a fetch of these batches as the reading thread delivers it."""
    return read_block(block_of(raw, first_offset), workspace or Workspace())


async def _do_nothing() -> None:
    await asyncio.sleep(0)


class RecordingPublisher:
    """Keeps decisions and dead letters. ``before`` is awaited before a decision is accepted."""

    def __init__(self, before: Callable[[], Awaitable[object]] = _do_nothing) -> None:
        self.decisions: list[Decision] = []
        self.buried: list[tuple[str, Source, bytes]] = []
        self._before = before

    async def publish(self, decision: Decision) -> None:
        await self._before()
        self.decisions.append(decision)

    async def bury(self, reason: str, source: Source, value: bytes) -> None:
        self.buried.append((reason, source, value))


class NullWriter:
    """A changelog's writer that writes nothing."""

    position = -1

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def write(self, cut: Cut) -> None:
        """Do nothing."""


def shard_of(
    partition: Partition,
    index: OverrideIndex | None = None,
    phase: float = 0.0,
    flushed: Callable[[], Awaitable[None]] = _do_nothing,
) -> Shard:
    """Return a shard that owns ``partition``, without Kafka."""
    overrides = OverrideIndex() if index is None else index
    return Shard(
        Replica(lambda: partition, "state", {}),
        NullWriter(),
        flushed,
        lambda owned: PublishGate(overrides, owned, COMPOSER, "exemptions"),
        phase,
    )


class OneShard:
    """A worker's shards, of which there is one, or none once ``only`` is None."""

    def __init__(self, shard: Shard) -> None:
        self.composer = COMPOSER
        self.only: Shard | None = shard

    async def shard(self, partition: int) -> Shard | None:
        return self.only

    def __iter__(self) -> Iterator[Shard]:
        return iter([self.only] if self.only else [])

    def restoring(self) -> dict[int, Shard]:
        return {}

    def standbys(self) -> list[Replica]:
        return []


class Bench:
    """An applier with one partition, whose topic has nothing before ``first_left``."""

    def __init__(self, publisher: RecordingPublisher | None = None, first_left: int = 10**9) -> None:
        self.partition = Partition(Policy(1.0, DAY_MS, NUMBER, 8), ROWS)
        self.index = OverrideIndex(kept_ms=KEPT_MS)
        self.shard = shard_of(self.partition, self.index)
        self.shards = OneShard(self.shard)
        self.publisher = publisher or RecordingPublisher()
        self._first_left = first_left
        self.applier = BlockApplier(self.shards, self.publisher, self._first_offset)

    async def apply(self, raw: bytes, first_offset: int = 0) -> None:
        """Apply a fetch of these batches."""
        await self.applier.apply(event_block(raw, first_offset))

    async def reconfigure(self, composer: Composer) -> int:
        """Apply another configuration; return the number of throttles that are in shadow now and withdrawn."""
        self.shards.composer = composer
        decisions = self.shard.reconfigure(self.partition.policy, composer)
        withdrawn = self.shard.gate.drain_counts().withdrawn
        await self.applier.publish(decisions)
        return withdrawn

    @property
    def published(self) -> list[bytes]:
        """The decisions' JSON, in order."""
        return [encode_decision(decision) for decision in self.publisher.decisions]

    async def _first_offset(self, partition: int) -> int:
        assert partition == NUMBER
        return self._first_left
