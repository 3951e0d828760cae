"""Connection events and heartbeats into Kafka: exactly once per batch, and never in the way of an answer.

What has ended is written to the spool a few times a second; a second task sends the spool's batches, oldest first, each in one
Kafka transaction, together with the batch's number as an offset committed for a group of the spool's own. After any
failure a new producer of the same transactional id settles what was open, the committed number says what Kafka has, and the
rest is sent. So a crash or a lost acknowledgement neither loses a batch nor sends it twice. The group's offset points at
the edges topic, whose first partition stands for the spool's numbers; nobody reads there by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.producer.message_accumulator import BatchBuilder

from engine.edge.connections import Connection, ConnectionTracker
from engine.edge.servers import now_ms
from engine.edge.spool import Spool
from engine.kafka.follow import UNAVAILABLE, RateLimitedWarning, retry, stop_within
from topics.contracts import CONNECTIONS, EDGES
from topics.events import PoisonRecord, parse_event
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

logger = logging.getLogger(__name__)
CODEC = "lz4"
BATCH_EVENTS = 10_000
AT_ONCE = 100  # events worked on between two turns of the loop: half a millisecond
PATIENCE_S = 60.0  # for one exchange with Kafka: aiokafka's own tasks may die unnoticed and leave it waiting
STOP_S = 1.0
HEARTBEAT_VERSION = 1


class DeliveryOptions(NamedTuple):
    """``name``: of this process among all edges', in heartbeats; ``mta``: of its mail server, in events; ``prefix``: of the
    topics."""

    name: str
    mta: str
    prefix: str
    batch_s: float
    heartbeat_s: float
    client_options: Mapping[str, Any]


class Delivery:
    """Takes ended connections to ``spool`` and from there to Kafka."""

    def __init__(self, connections: ConnectionTracker, spool: Spool, options: DeliveryOptions) -> None:
        self.delivered = self.unspooled = self.unsendable = 0
        self._connections, self._spool, self._options = connections, spool, options
        self._connection_topic, self._edges = (options.prefix + topic.name for topic in (CONNECTIONS, EDGES))
        self._id = f"{options.prefix}tidegate-edge-{spool.identity}"
        self._written, self._sent, self._flushing = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._away = True
        self._warning = RateLimitedWarning(logger, "events wait on disk, Kafka doesn't take them: %s")

    async def collect(self) -> None:
        """Write what has ended to the spool, for ever. A full disk loses events, counted, and nothing else."""
        while True:
            await asyncio.sleep(self._options.batch_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what has ended by now to the spool; returns when all of it is there, whoever wrote it. What ends meanwhile is
        the next one's: a busy edge would write a file for every few events without end."""
        async with self._flushing:
            waiting = self._connections.ended
            for first in range(0, waiting, BATCH_EVENTS):
                lines = await self._lines(self._connections.take_ended(min(BATCH_EVENTS, waiting - first)))
                try:
                    await asyncio.to_thread(self._spool.append, lines)
                except OSError as error:
                    self.unspooled += len(lines)
                    logger.warning("%d events are lost: %s", len(lines), error)
                self._written.set()

    async def deliver(self) -> None:
        """Send the spool, for ever; after a failure with a new producer."""
        await retry(self._deliver, self._warning)

    async def beat(self) -> None:
        """Tell the other edges that this one is alive, for ever; tell them when it stops."""
        await retry(self._beat_on)

    async def drain(self) -> None:
        """Wait until the spool is empty, as long as Kafka takes a batch a second; the rest is safe on disk."""
        with contextlib.suppress(TimeoutError):
            while len(self._spool) and not self._away:
                self._sent.clear()
                await asyncio.wait_for(self._sent.wait(), STOP_S)

    async def _lines(self, ended: list[Connection]) -> list[bytes]:
        lines: list[bytes] = []
        for at in range(0, len(ended), AT_ONCE):
            lines += [connection.event(self._options.mta) for connection in ended[at : at + AT_ONCE]]
            await asyncio.sleep(0)
        return lines

    async def _deliver(self) -> None:
        options = self._options.client_options
        producer = AIOKafkaProducer(transactional_id=self._id, compression_type=CODEC, **options)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await producer.start()
                self._spool.settle(await self._durable())
            self._away = False
            while True:
                self._written.clear()
                batch = await asyncio.to_thread(self._spool.oldest)
                if batch is None:
                    await self._written.wait()
                    continue
                number, lines = batch
                async with asyncio.timeout(PATIENCE_S):
                    await self._commit(producer, number, lines)
                self.delivered += len(lines)
                await asyncio.to_thread(self._spool.remove, number)
                self._sent.set()
        except UNAVAILABLE:
            self._away = True
            raise
        finally:
            await stop_within(producer.stop())

    async def _commit(self, producer: AIOKafkaProducer, number: int, lines: list[bytes]) -> None:
        """One batch in one transaction. A failed one isn't aborted here, which aiokafka may wait for without end: the next
        producer's start does it."""
        await producer.begin_transaction()
        await self._send(producer, lines)
        await producer.send_offsets_to_transaction({TopicPartition(self._edges, 0): number}, self._id)
        await producer.commit_transaction()

    async def _send(self, producer: AIOKafkaProducer, lines: list[bytes]) -> None:
        partitions = len(await producer.partitions_for(self._connection_topic))
        batches: dict[int, BatchBuilder] = {}
        sent: list[asyncio.Future[Any]] = []
        for number, line in enumerate(lines):
            if number % AT_ONCE == 0:
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

    async def _durable(self) -> int:
        """The number of the last batch that Kafka has; 0 if it has none."""
        admin = AIOKafkaAdminClient(**self._options.client_options)
        try:
            await admin.start()
            offsets = await admin.list_consumer_group_offsets(self._id, partitions=[TopicPartition(self._edges, 0)])
        finally:
            await admin.close()
        return max([0, *(int(found.offset) for found in offsets.values())])

    async def _beat_on(self) -> None:
        producer = AIOKafkaProducer(**self._options.client_options)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await producer.start()
            while True:
                async with asyncio.timeout(PATIENCE_S):
                    await self._beat(producer, alive=True)
                await asyncio.sleep(self._options.heartbeat_s)
        except asyncio.CancelledError:
            with contextlib.suppress(*UNAVAILABLE):
                await asyncio.wait_for(self._beat(producer, alive=False), 0 if self._away else STOP_S)
            raise
        finally:
            await stop_within(producer.stop())

    async def _beat(self, producer: AIOKafkaProducer, *, alive: bool) -> None:
        value = orjson.dumps({"edge": self._options.name, "ts": now_ms(), "alive": alive, "v": HEARTBEAT_VERSION})
        await producer.send_and_wait(self._edges, value, self._options.name.encode())
