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
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from engine.policy.partition import Partition
from engine.policy.snapshot import Cut, Restoration
from engine.stream.blocks import Block, BlockConsumer
from engine.stream.unpacking import Unpacked
from topics.columns.batches import empty_records, read_records
from topics.columns.batchwrite import ColumnBatch

RETRY_S = 0.5
FETCH_OCTETS = 8 << 20
TRANSACTION_TIMEOUT_MS = 60_000


class Fenced(Exception):
    """Another worker has taken the partition over; this one must not write any more."""


class ChangelogWriter:
    """Writes one partition's checkpoints. ``options``: the cluster's client options (aiokafka keywords)."""

    def __init__(self, topic: str, partition: int, app_id: str, options: dict[str, Any]) -> None:
        self.topic, self.partition = topic, partition
        self._producer = AIOKafkaProducer(
            transactional_id=f"{app_id}-state-{partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **options,
        )

    async def start(self) -> None:
        """Take the partition over: fences every earlier writer and ends its open transaction."""
        await self._producer.start()

    async def stop(self) -> None:
        """Give up the connection."""
        await self._producer.stop()

    async def write(self, cut: Cut) -> None:
        """Make a cut durable, however long the cluster is away; `Fenced` when it isn't ours to write any more."""
        batches = await asyncio.to_thread(self._pack, cut)
        while True:
            try:
                return await self._transaction(batches)
            except ProducerFenced as error:
                raise Fenced(f"partition {self.partition} was taken over by another worker") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_S)

    @staticmethod
    def _pack(cut: Cut) -> list[ColumnBatch]:
        stamp_ms = int(time.time() * 1000)
        return [
            ColumnBatch(section.octets, section.count, (stamp_ms, stamp_ms), transactional=True)
            for section in cut.sections
        ]

    async def _transaction(self, batches: list[ColumnBatch]) -> None:
        async with self._producer.transaction():
            sent = [await self._producer.send_batch(batch, self.topic, partition=self.partition) for batch in batches]
            await asyncio.gather(*sent)


async def restore(
    partition: Partition, topic: str, options: dict[str, Any], on_progress: Callable[[int, int], None]
) -> Restoration:
    """Read a partition's changelog to its end into ``partition``; `topics.changelog.BadState` when it can't be read.

    ``on_progress(rows, octets)`` is called after every fetch."""
    restoration = Restoration(partition)
    tp = TopicPartition(topic, partition.number)
    consumer = BlockConsumer(max_partition_fetch_bytes=FETCH_OCTETS, auto_offset_reset="earliest", **options)
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        octets = 0
        while await consumer.position(tp) < end:
            for fetched in (await consumer.getmany(tp, timeout_ms=1000)).values():
                for record in fetched:
                    _add(restoration, record.value)
                    octets += len(record.value.octets)
                    on_progress(restoration.rows, octets)
    finally:
        await consumer.stop()
    restoration.finish()
    return restoration


def _add(restoration: Restoration, block: Block) -> None:
    unpacked = Unpacked(block)
    records = empty_records(unpacked.most_records)
    count = read_records(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, records)
    assert unpacked.batches["sound"].all(), "a checkpoint's batch passed its CRC but can't be read"
    restoration.add(unpacked.octets, unpacked.arena, type(records)._make(column[:count] for column in records))
