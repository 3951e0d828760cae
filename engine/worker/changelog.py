"""The state changelog: checkpoints written in transactions, and a partition's state read back.

A transactional id names app and partition, so starting a writer fences any earlier one (a zombie's next checkpoint fails)
and ends what that left open. Only then is the changelog read: no later checkpoint than the one that is read can become
valid. That order is why the engine restores by itself and not through a Faust table, whose recovery reads the changelog
before anybody has been fenced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Unpacked
from engine.kafka.resilient_clients import RETRY_S, PatientProducer, away
from engine.state.encode import Cut
from engine.state.partition import Partition
from engine.state.records import Fetch
from engine.state.restore import Restoration
from topics.columns.batches import empty_records, read_records
from topics.columns.batchwrite import ColumnBatch

STOP_S = 5.0
FETCH_OCTETS = 8 << 20
FETCH_WAIT_MS = 1000
TRANSACTION_TIMEOUT_MS = 60_000
SILENCE_S = (
    2 * TRANSACTION_TIMEOUT_MS / 1000
)  # no transaction lives longer: a client that neither ends nor fails is stuck


class Fenced(Exception):
    """Another worker has taken the partition over; this one must not write any more."""


class Stuck(Exception):
    """The Kafka client has neither ended a transaction nor failed in it; only a new process is sure to get on."""


class Remade(Exception):
    """The changelog isn't the one that was read before: it ends earlier, or its writers' epochs went back."""


class ChangelogWriter:
    """Writes one partition's checkpoints. ``options``: the cluster's client options (aiokafka keywords).

    ``position``: the changelog's offset behind the last one written, -1 before it."""

    def __init__(self, topic: str, partition: int, app_id: str, options: dict[str, Any]) -> None:
        self.topic, self.partition = topic, partition
        self.position = -1
        self._producer = PatientProducer(
            transactional_id=f"{app_id}-state-{partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **options,
        )

    async def start(self) -> None:
        """Take the partition over: fences every earlier writer and ends its open transaction."""
        await self._producer.start()

    async def stop(self) -> None:
        """Give up the connection. aiokafka would wait for requests that are never answered: this doesn't, for long."""
        stopping = asyncio.create_task(self._producer.stop())
        await asyncio.wait((stopping,), timeout=STOP_S)
        stopping.cancel()

    async def write(self, cut: Cut) -> None:
        """Make a cut durable, which uses it up, however long the cluster is away; `Fenced` when it isn't ours to write any
        more, `Stuck` when nothing at all is heard of it."""
        batches = await asyncio.to_thread(self._pack, cut)
        while True:
            try:
                return await self._attempt(batches)
            except ProducerFenced as error:
                raise Fenced(f"partition {self.partition} was taken over by another worker") from error
            except KafkaError as error:
                if not away(error):
                    raise
                await asyncio.sleep(RETRY_S)

    @staticmethod
    def _pack(cut: Cut) -> list[ColumnBatch]:
        """The cut's sections packed, each let go of as soon as it is: unpacked they are as large as the rows themselves."""
        stamp_ms, batches = int(time.time() * 1000), list[ColumnBatch]()
        cut.sections.reverse()
        while cut.sections:
            section = cut.sections.pop()
            batches.append(ColumnBatch(section.octets, section.count, (stamp_ms, stamp_ms), transactional=True))
        return batches

    async def _attempt(self, batches: list[ColumnBatch]) -> None:
        """One transaction. A cancelled one isn't waited for: aiokafka would want its abort answered first."""
        attempt = asyncio.create_task(self._transaction(batches))
        try:
            done, _ = await asyncio.wait((attempt,), timeout=SILENCE_S)
        finally:
            attempt.cancel()
        if not done:
            raise Stuck(f"partition {self.partition}: no word of a checkpoint for {SILENCE_S:g} s")
        attempt.result()

    async def _transaction(self, batches: list[ColumnBatch]) -> None:
        async with self._producer.transaction():
            sent = [await self._producer.send_batch(batch, self.topic, partition=self.partition) for batch in batches]
            stored = await asyncio.gather(*sent)
        self.position = stored[-1].offset + batches[-1].record_count()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a restoration has come: ``rows`` and ``octets`` read, ``share`` of the changelog's offsets, ``seconds``."""

    rows: int
    octets: int
    share: float
    seconds: float

    def __str__(self) -> str:
        mb = self.octets / 1e6
        left_s = self.seconds * (1 - self.share) / max(self.share, 1e-3)
        return f"{self.rows:,} rows, {mb:,.0f} MB ({mb / max(self.seconds, 1e-3):.0f} MB/s), about {left_s:.0f} s to go"


class ChangelogReader:
    """Reads a partition's changelog into ``restoration``, from ``position`` on (-1: from its beginning).

    Kafka's errors come through, a position that the changelog doesn't have any more included; `topics.changelog.BadState`
    when a record can't be read; `Remade`."""

    def __init__(self, restoration: Restoration, topic: str, options: dict[str, Any], position: int = -1) -> None:
        self.restoration = restoration
        self._tp = TopicPartition(topic, restoration.partition.number)
        self._from = position
        self._consumer = BlockConsumer(max_partition_fetch_bytes=FETCH_OCTETS, auto_offset_reset="none", **options)
        self._octets = 0

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()
        self._consumer.assign([self._tp])
        if self._from < 0:
            await self._consumer.seek_to_beginning(self._tp)
        else:
            self._consumer.seek(self._tp, self._from)

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def position(self) -> int:
        """The changelog's offset behind what was read."""
        return int(await self._consumer.position(self._tp))

    async def fetch(self, wait_ms: int = FETCH_WAIT_MS) -> None:
        """Apply what one fetch brings, if anything comes in time."""
        for fetched in (await self._consumer.getmany(self._tp, timeout_ms=wait_ms)).values():
            for record in fetched:
                epoch = self.restoration.epoch
                await asyncio.to_thread(_add, self.restoration, record.value)
                self._octets += len(record.value.octets)
                if self.restoration.epoch < epoch:
                    raise Remade(f"epoch {self.restoration.epoch} after {epoch}")

    async def read_on(self, on_progress: Callable[[Progress], None]) -> None:
        """Read to the end that the changelog has now."""
        begun_s, rows = time.monotonic(), self.restoration.rows
        first = at = await self.position()
        end = (await self._consumer.end_offsets([self._tp]))[self._tp]
        if end < first:
            raise Remade(f"it ends at {end}, {first} was read before")
        while at < end:
            await self.fetch()
            at = await self.position()
            share = min(1.0, (at - first) / (end - first))
            on_progress(Progress(self.restoration.rows - rows, self._octets, share, time.monotonic() - begun_s))


async def restore(partition: Partition, topic: str, options: dict[str, Any]) -> Restoration:
    """Read a partition's changelog to its end into ``partition``, which has seen nothing yet."""
    reader = ChangelogReader(Restoration(partition), topic, options)
    await reader.start()
    try:
        await reader.read_on(lambda _: None)
    finally:
        await reader.stop()
    reader.restoration.finish()
    return reader.restoration


def records_of(block: Block) -> Fetch:
    """The records of a block of the changelog."""
    unpacked = Unpacked(block)
    records = empty_records(unpacked.most_records)
    count = read_records(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, records)
    assert unpacked.batches["sound"].all(), "a checkpoint's batch passed its CRC but can't be read"
    return Fetch(unpacked.octets, unpacked.arena, records).some(slice(count))


def _add(restoration: Restoration, block: Block) -> None:
    restoration.add(*records_of(block))
