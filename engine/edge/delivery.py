"""Deliver connection events to Kafka exactly once, and heartbeats to the other edges, without delaying a reply.

Ended connections are written to the spool a few times a second. A second task sends the spool's batches, oldest first, each in
one Kafka transaction together with the batch's number, committed as an offset of the spool's own consumer group.

After any failure a new producer with the same transactional id aborts the open transaction. The committed number then tells
which batches Kafka has, and the rest is sent. So a crash or a lost acknowledgement neither loses a batch nor sends it twice.
The group's offset is on partition 0 of the edges topic, where it only represents the batch number; no reader starts from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.producer.message_accumulator import BatchBuilder

from engine.edge.connections import Connection, ConnectionTracker
from engine.edge.servers import now_ms
from engine.edge.spool import Spool
from engine.kafka.clients import ExistingTopicsProducer
from engine.kafka.follow import UNAVAILABLE, RateLimitedWarning, retry, stop_within
from topics.contracts import CONNECTIONS, EDGES, edge_client
from topics.events import PoisonRecord, parse_event
from topics.heartbeats import Heartbeat, encode_heartbeat
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

logger = logging.getLogger(__name__)
CODEC = "lz4"
BATCH_EVENTS = 10_000
SLICE_EVENTS = 100  # events encoded before the event loop runs other tasks: half a millisecond
TIMEOUT_S = (
    60.0  # of one exchange with Kafka: aiokafka's own tasks may die unnoticed, and it would wait without a bound
)
STOP_S = 1.0


class DeliveryOptions(NamedTuple):
    """Names and intervals of a delivery."""

    name: str  # of this process among all edges' processes, in heartbeats
    mta: str  # of the mail server, in events
    prefix: str  # of the topics
    batch_s: float  # between two batches
    heartbeat_s: float  # between two heartbeats
    client_options: Mapping[str, Any]


class Delivery:
    """Moves ended connections to the spool, and from there to Kafka."""

    def __init__(self, connections: ConnectionTracker, spool: Spool, options: DeliveryOptions) -> None:
        self.delivered = self.unspooled = self.unsendable = 0
        self._connections, self._spool, self._options = connections, spool, options
        self._connection_topic, self._edges = (options.prefix + topic.name for topic in (CONNECTIONS, EDGES))
        self._id = edge_client(options.prefix, spool.identity)
        self._written, self._sent, self._flushing = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._is_unreachable = True
        self._warning = RateLimitedWarning(logger, "events wait on disk, sending them to Kafka failed: %s")

    async def flush_periodically(self) -> None:
        """Flush every `batch_s` until cancelled. If the disk is full, events are dropped and counted."""
        while True:
            await asyncio.sleep(self._options.batch_s)
            await self.flush()

    async def flush(self) -> None:
        """Write the connections that have ended so far to the spool. Returns once they are on disk, even if another call writes
        them.

        Connections that end during the write are left to the next flush; otherwise a busy edge would write a file for every
        few events.
        """
        async with self._flushing:
            count = self._connections.ended_count
            for first in range(0, count, BATCH_EVENTS):
                lines = await self._encode(self._connections.pop_ended(min(BATCH_EVENTS, count - first)))
                try:
                    await asyncio.to_thread(self._spool.append, lines)
                except OSError as error:
                    self.unspooled += len(lines)
                    logger.warning("%d events are lost: %s", len(lines), error)
                self._written.set()

    async def send_spool(self) -> None:
        """Send the spool's batches until cancelled; after a failure with a new producer."""
        await retry(self._send_batches, self._warning)

    async def send_heartbeats(self) -> None:
        """Report to the other edges that this one is alive, until cancelled; then report that it stops."""
        await retry(self._send_heartbeats)

    async def drain(self) -> None:
        """Wait until the spool is empty, or Kafka takes longer than `STOP_S` for a batch; the rest remains on disk."""
        with contextlib.suppress(TimeoutError):
            while len(self._spool) and not self._is_unreachable:
                self._sent.clear()
                await asyncio.wait_for(self._sent.wait(), STOP_S)

    async def _encode(self, ended: list[Connection]) -> list[bytes]:
        lines: list[bytes] = []
        for at in range(0, len(ended), SLICE_EVENTS):
            lines += [connection.event(self._options.mta) for connection in ended[at : at + SLICE_EVENTS]]
            await asyncio.sleep(0)
        return lines

    async def _send_batches(self) -> None:
        options = self._options.client_options
        producer = ExistingTopicsProducer(transactional_id=self._id, compression_type=CODEC, **options)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await producer.start()
                self._spool.remove_through(await self._last_committed())
            self._is_unreachable = False
            while True:
                self._written.clear()
                batch = await asyncio.to_thread(self._spool.oldest)
                if batch is None:
                    await self._written.wait()
                    continue
                number, lines = batch
                async with asyncio.timeout(TIMEOUT_S):
                    await self._commit(producer, number, lines)
                self.delivered += len(lines)
                await asyncio.to_thread(self._spool.remove, number)
                self._sent.set()
        except UNAVAILABLE:
            self._is_unreachable = True
            raise
        finally:
            await stop_within(producer.stop())

    async def _commit(self, producer: ExistingTopicsProducer, number: int, lines: list[bytes]) -> None:
        """Send one batch in one transaction.

        A failed transaction isn't aborted here, because aiokafka may wait for that without a bound. The next producer's start
        aborts it.
        """
        await producer.begin_transaction()
        await self._send_lines(producer, lines)
        await producer.send_offsets_to_transaction({TopicPartition(self._edges, 0): number}, self._id)
        await producer.commit_transaction()

    async def _send_lines(self, producer: ExistingTopicsProducer, lines: list[bytes]) -> None:
        partitions = len(await producer.partitions_for(self._connection_topic))
        batches: dict[int, BatchBuilder] = {}
        sent: list[asyncio.Future[Any]] = []
        for number, line in enumerate(lines):
            if number % SLICE_EVENTS == 0:
                await asyncio.sleep(0)
            try:
                event = parse_event(line)
            except PoisonRecord:
                self.unsendable += 1
                continue
            key = key_text(key_of(event.ip)).encode()
            partition = partition_of(key, partitions)
            batch = batches.get(partition) or batches.setdefault(partition, producer.create_batch())
            if batch.append(key=key, value=line, timestamp=event.ts) is None:
                sent.append(await producer.send_batch(batch, self._connection_topic, partition=partition))
                batch = batches[partition] = producer.create_batch()
                batch.append(key=key, value=line, timestamp=event.ts)
        for partition, batch in batches.items():
            sent.append(await producer.send_batch(batch, self._connection_topic, partition=partition))
        await asyncio.gather(*sent)

    async def _last_committed(self) -> int:
        """Return the number of the last batch that Kafka has; 0 if it has none."""
        admin = AIOKafkaAdminClient(**self._options.client_options)
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self._id, partitions=[TopicPartition(self._edges, 0)])
        finally:
            await admin.close()
        return max([0, *(int(committed.offset) for committed in offsets.values())])

    async def _send_heartbeats(self) -> None:
        producer = ExistingTopicsProducer(**self._options.client_options)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await producer.start()
            while True:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._send_heartbeat(producer, alive=True)
                await asyncio.sleep(self._options.heartbeat_s)
        except asyncio.CancelledError:
            with contextlib.suppress(*UNAVAILABLE):
                await asyncio.wait_for(
                    self._send_heartbeat(producer, alive=False), 0 if self._is_unreachable else STOP_S
                )
            raise
        finally:
            await stop_within(producer.stop())

    async def _send_heartbeat(self, producer: ExistingTopicsProducer, *, alive: bool) -> None:
        heartbeat = Heartbeat(self._options.name, now_ms(), alive)
        await producer.send_and_wait(self._edges, encode_heartbeat(heartbeat), self._options.name.encode())
