"""Replacements for aiokafka's producer and consumer in a simulated worker: requests are delayed, lost, or fail.

A request takes effect at some time between the call and its response, so a worker may die knowing less than the cluster.
Each client draws its delays by itself, so the order in which Python iterates over a set changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, ProducerFenced, RequestTimedOutError

from engine.kafka.blocks import BlockRecords, RawRecords
from tests.simulation.batches import ABORT, COMMIT
from tests.simulation.cluster import Cluster
from topics.columns.batchwrite import ColumnBatch

FAST_S, SLOW_S, STALL_S = 0.003, 0.4, 2.0


class Network:
    """One worker's connection to the cluster. ``trouble`` has the probability of a failed request, by kind."""

    def __init__(self, cluster: Cluster, name: str, trouble: dict[str, float]) -> None:
        self.cluster = cluster
        self.name = name
        self.trouble = trouble
        self.dead = False
        self.producers: list[SimulatedProducer] = []
        self._drawn = 0

    def draw(self, client: str) -> random.Random:
        """Return a random generator for one client."""
        self._drawn += 1
        return random.Random(f"{self.name}/{client}")

    async def pause(self, draw: random.Random) -> None:
        """Wait for one way through the network; it never returns once the worker is dead."""
        if self.dead:
            raise asyncio.CancelledError
        waits = draw.random() > 0.3
        slow_s = SLOW_S if draw.random() < self.trouble["slow"] else FAST_S
        if draw.random() < self.trouble["stall"]:
            await asyncio.sleep(draw.uniform(0.1, STALL_S))
        elif waits:
            await asyncio.sleep(draw.expovariate(1 / slow_s))

    def fails(self, kind: str, draw: random.Random) -> bool:
        """Return True if a request of this kind fails."""
        failed = draw.random() < self.trouble[kind]
        self.cluster.seen[f"failed: {kind}"] += failed
        return failed


NETWORK: ContextVar[Network] = ContextVar("NETWORK")


class SimulatedProducer:
    """Replaces AIOKafkaProducer, with and without a transactional id."""

    def __init__(self, transactional_id: str = "", **options: Any) -> None:
        self._network = NETWORK.get()
        self._cluster = self._network.cluster
        self._id = transactional_id
        self._partition = int(transactional_id.rpartition("-")[2] or 0)
        self._draw = self._network.draw(transactional_id or "decisions")
        self._epoch = self._producer_id = -1
        self._fatal = False
        self._queue: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(200)
        self._sender: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; with a transactional id, fence its earlier producers."""
        await self._network.pause(self._draw)
        if self._id:
            self._producer_id, self._epoch = self._cluster.take_over(self._id, self._partition)
        else:
            self._network.producers.append(self)
            self._sender = asyncio.create_task(self._send_all())
        await self._network.pause(self._draw)

    async def stop(self) -> None:
        """Send all queued records."""
        if self._sender is not None:
            await self._queue.join()
            self._sender.cancel()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit at the end; abort on an exception, unless the producer is fenced. As aiokafka does."""
        if self._fatal:
            raise ProducerFenced
        try:
            yield
        except BaseException:
            if not self._fatal:
                await self._end(ABORT)
            raise
        await self._end(COMMIT)

    async def send_batch(self, batch: ColumnBatch, topic: str, *, partition: int) -> asyncio.Future[SimpleNamespace]:
        """Queue a batch; the future is done when the cluster has accepted or refused it."""
        assert partition == self._partition
        acknowledged = asyncio.get_running_loop().create_future()
        await self._network.pause(self._draw)
        batch._set_producer_state(self._producer_id, self._epoch, 0)
        if self._network.fails("batch", self._draw):
            error = RequestTimedOutError() if self._draw.random() < 0.7 else KafkaTimeoutError()
            acknowledged.set_exception(error)
            return acknowledged
        try:
            first_offset = self._cluster.write(self._id, self._epoch, partition, batch)
            acknowledged.set_result(SimpleNamespace(offset=first_offset))
        except ProducerFenced as error:
            self._fatal = True
            acknowledged.set_exception(error)
        await self._network.pause(self._draw)
        return acknowledged

    async def _end(self, kind: int) -> None:
        await self._network.pause(self._draw)
        lost = self._network.fails("end", self._draw)
        done = ABORT if lost and self._draw.random() < 0.5 else kind  # committed or aborted, and the response is lost
        try:
            self._cluster.end(self._id, self._epoch, self._partition, done)
        except ProducerFenced:
            self._fatal = True
            raise
        if lost:
            raise RequestTimedOutError
        await self._network.pause(self._draw)

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[None]:
        """Queue a decision or a dead letter; waits while the queue is full."""
        if self._draw.random() < 0.3:
            await self._network.pause(self._draw)
        if self._network.fails("send", self._draw):
            raise KafkaTimeoutError
        acknowledged = asyncio.get_running_loop().create_future()
        await self._queue.put((acknowledged, topic, value, key, dict(headers)))
        return acknowledged

    async def _send_all(self) -> None:
        while True:
            acknowledged, *record = await self._queue.get()
            try:
                await self._network.pause(self._draw)
                if self._network.fails("decision", self._draw):
                    acknowledged.set_exception(MessageSizeTooLargeError())
                    continue
                self._store(*record)
                await self._network.pause(self._draw)
                acknowledged.set_result(None)
            finally:
                self._queue.task_done()

    def _store(self, topic: str, value: bytes | None, key: bytes | None, headers: dict[str, bytes]) -> None:
        if topic.endswith("decisions"):
            self._cluster.decisions.append((key, value, headers))
        else:
            self._cluster.letters.append(value or b"")

    def lose(self) -> None:
        """Let some of the queued records arrive, in order, although the worker is dead."""
        for _ in range(self._draw.randint(0, self._queue.qsize())):
            _, *record = self._queue.get_nowait()
            self._store(*record)


class SimulatedConsumer:
    """Replaces BlockConsumer for a changelog."""

    def __init__(self, **options: Any) -> None:
        self._network = NETWORK.get()
        self._position = 0
        self._draw = self._network.draw("restore")

    async def start(self) -> None:
        """Connect."""
        await self._network.pause(self._draw)

    async def stop(self) -> None:
        """Disconnect."""

    def assign(self, tps: list[TopicPartition]) -> None:
        """Read the one partition."""
        (self._tp,) = tps
        self._draw = self._network.draw(f"restore/{self._tp.partition}")
        self._log = self._network.cluster.state[self._tp.partition]

    async def seek_to_beginning(self, tp: TopicPartition) -> None:
        """Start at the first offset."""
        self._position = 0

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Start at an offset."""
        self._position = offset

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the end of committed transactions."""
        await self._network.pause(self._draw)
        end = self._log.stable_offset
        await self._network.pause(self._draw)
        return dict.fromkeys(tps, end)

    async def position(self, tp: TopicPartition) -> int:
        """Return the next offset to read."""
        return self._position

    async def getmany(self, tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        """Return the block of one fetch, or nothing."""
        await self._network.pause(self._draw)
        raw, aborted = self._log.fetch(self._position, self._draw.choice((1, 2, 5, 1000)))
        if not raw:
            self._position = max(self._position, self._log.stable_offset)  # compaction removed the rest
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        records = BlockRecords(self._tp, RawRecords(raw), aborted, self._position, None, None, True, 1)
        blocks = [SimpleNamespace(value=record.value) for record in records]
        self._position = records.next_fetch_offset
        return {tp: blocks} if blocks else {}
