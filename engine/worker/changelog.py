"""The state changelog: checkpoints written in transactions, and a partition's state read back.

A transactional id names app and partition. So a starting writer fences every earlier one (a zombie's next checkpoint fails)
and ends its open transaction. Only then is the changelog read: no later checkpoint can become valid. Because of this order the
engine restores the state itself. Rejected: a Faust table, whose recovery reads the changelog before any writer is fenced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Unpacked
from engine.kafka.follow import retry, stop_within
from engine.kafka.resilient_clients import ResilientProducer, is_transient
from engine.state.encode import Cut
from engine.state.partition import Partition
from engine.state.records import StateFetch
from engine.state.restore import Restoration
from topics.changelog import BadState
from topics.columns.batches import empty_records, read_records
from topics.columns.batchwrite import ColumnBatch
from topics.contracts import state_writer

STOP_S = 5.0
FETCH_BYTES = 8 << 20
FETCH_WAIT_MS = 1000
TRANSACTION_TIMEOUT_MS = 60_000
SILENCE_S = (
    2 * TRANSACTION_TIMEOUT_MS / 1000
)  # no transaction lives longer: a client that neither ends nor fails is stuck


class Fenced(Exception):
    """Another worker has taken the partition over; this one must not write any more."""


class Stuck(Exception):
    """The Kafka client has neither ended a transaction nor failed in it; only a new process is sure to continue."""


class Recreated(Exception):
    """The changelog is not the one that was read before: it ends earlier, or its writers' epochs went back."""


class ChangelogWriter:
    """Writes one partition's checkpoints. ``options`` are the cluster's client options (aiokafka keywords).

    ``position`` is the changelog's offset after the last checkpoint, -1 before the first.
    """

    def __init__(self, topic: str, partition: int, app_id: str, options: dict[str, Any]) -> None:
        self.topic, self.partition = topic, partition
        self.position = -1
        self._producer = ResilientProducer(
            transactional_id=state_writer(app_id, partition),
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **options,
        )

    async def start(self) -> None:
        """Take the partition over: fence every earlier writer and end its open transaction."""
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect within `STOP_S`; aiokafka would wait for unanswered requests without a bound."""
        await stop_within(self._producer.stop(), STOP_S)

    async def write(self, cut: Cut) -> None:
        """Make a cut durable, which consumes it, however long the cluster is unreachable.

        Raises `Fenced` when another worker owns the partition, `Stuck` after `SILENCE_S` without any response.
        """
        batches = await asyncio.to_thread(self._pack, cut)
        try:
            await retry(partial(self._attempt, batches), is_retried=is_transient)
        except ProducerFenced as error:
            raise Fenced(f"partition {self.partition} was taken over by another worker") from error

    @staticmethod
    def _pack(cut: Cut) -> list[ColumnBatch]:
        """Pack the cut's sections, and release each immediately: unpacked they are as large as the rows themselves."""
        time_ms, batches = int(time.time() * 1000), list[ColumnBatch]()
        cut.sections.reverse()
        while cut.sections:
            section = cut.sections.pop()
            batches.append(ColumnBatch(section.records, section.count, (time_ms, time_ms), transactional=True))
        return batches

    async def _attempt(self, batches: list[ColumnBatch]) -> None:
        """Run one transaction. A cancelled one isn't awaited: aiokafka would wait until its abort is answered."""
        attempt = asyncio.create_task(self._transaction(batches))
        try:
            done, _ = await asyncio.wait((attempt,), timeout=SILENCE_S)
        finally:
            attempt.cancel()
        if not done:
            raise Stuck(f"partition {self.partition}: no response to a checkpoint for {SILENCE_S:g} s")
        attempt.result()

    async def _transaction(self, batches: list[ColumnBatch]) -> None:
        async with self._producer.transaction():
            sent = [await self._producer.send_batch(batch, self.topic, partition=self.partition) for batch in batches]
            stored = await asyncio.gather(*sent)
        self.position = stored[-1].offset + batches[-1].record_count()


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a restoration."""

    rows: int  # read so far
    size_bytes: int  # read so far
    share: float  # of the changelog's offsets
    seconds: float

    def __str__(self) -> str:
        mb = self.size_bytes / 1e6
        left_s = self.seconds * (1 - self.share) / max(self.share, 1e-3)
        return f"{self.rows:,} rows, {mb:,.0f} MB ({mb / max(self.seconds, 1e-3):.0f} MB/s), about {left_s:.0f} s to go"


class ChangelogReader:
    """Reads a partition's changelog into ``restoration``, from ``position`` on (-1: from its beginning).

    Raises Kafka's errors, OffsetOutOfRangeError included; `BadState` for a record that can't be decoded; `Recreated`.
    Rejected: `TopicReader`, which continues at the beginning if a position is out of range. A state must start from nothing.
    """

    def __init__(self, restoration: Restoration, topic: str, options: dict[str, Any], position: int = -1) -> None:
        self.restoration = restoration
        self._tp = TopicPartition(topic, restoration.partition.number)
        self._from = position
        self._consumer = BlockConsumer(max_partition_fetch_bytes=FETCH_BYTES, auto_offset_reset="none", **options)
        self._size_bytes = 0

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
        """Return the changelog's offset after the last record that was read."""
        return int(await self._consumer.position(self._tp))

    async def fetch(self, wait_ms: int = FETCH_WAIT_MS) -> None:
        """Apply one fetch, or return after ``wait_ms`` without records."""
        for fetched in (await self._consumer.getmany(self._tp, timeout_ms=wait_ms)).values():
            for record in fetched:
                epoch = self.restoration.epoch
                await asyncio.to_thread(add_block, self.restoration, record.value)
                self._size_bytes += len(record.value.raw)
                if self.restoration.epoch < epoch:
                    raise Recreated(f"epoch {self.restoration.epoch} after {epoch}")

    async def read_to_end(self, on_progress: Callable[[Progress], None]) -> None:
        """Read to the changelog's present end; ``on_progress`` is called after each fetch."""
        started_s, rows = time.monotonic(), self.restoration.rows
        first = at = await self.position()
        end = (await self._consumer.end_offsets([self._tp]))[self._tp]
        if end < first:
            raise Recreated(f"it ends at {end}, {first} was read before")
        while at < end:
            await self.fetch()
            at = await self.position()
            share = min(1.0, (at - first) / (end - first))
            on_progress(Progress(self.restoration.rows - rows, self._size_bytes, share, time.monotonic() - started_s))


async def restore(partition: Partition, topic: str, options: dict[str, Any]) -> Restoration:
    """Read a partition's changelog to its end into ``partition``, which must be empty."""
    reader = ChangelogReader(Restoration(partition), topic, options)
    await reader.start()
    try:
        await reader.read_to_end(lambda _: None)
    finally:
        await reader.stop()
    reader.restoration.finish()
    return reader.restoration


def records_of(block: Block) -> StateFetch:
    """Return the records of a block of the changelog. Raises `BadState` if a batch can't be decompressed."""
    unpacked = Unpacked(block)
    records = empty_records(unpacked.max_records)
    count = read_records(unpacked.raw, unpacked.arena, unpacked.batches, block.first_offset, records)
    unsound = unpacked.batches[unpacked.batches["sound"] == 0]
    if len(unsound):
        offset = int(unsound["base_offset"][0])
        raise BadState(f"the batch at offset {offset} of {block.topic}-{block.partition} can't be decompressed")
    return StateFetch(unpacked.raw, unpacked.arena, records).select(slice(count))


def add_block(restoration: Restoration, block: Block) -> None:
    """Apply a block of the changelog."""
    restoration.add(*records_of(block))
