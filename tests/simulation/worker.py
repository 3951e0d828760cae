"""One simulated worker: the real app with its agent, shards, publisher and consumer, on simulated clients.

All of `engine.worker` is real, except the process, Faust's services and the fetcher's connection. A fetch may begin at any
offset up to the next one; it becomes a block in the way of aiokafka's fetcher. The steps of a rebalance follow Faust's order:
revoke (checkpoint, commit, drop), clear the agent's queue, assign, fetch from the committed offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, cast

from aiokafka import ConsumerRecord
from faust.types import TP

from engine.config.load import Settings
from engine.kafka.blocks import Block, BlockRecords, RawRecords
from engine.worker.app import STREAM_BUFFER_BLOCKS, create_app
from engine.worker.prefetch import EventBlock, read_block
from tests.simulation.clients import NETWORK, Network
from tests.simulation.clock import OWNER
from topics.overrides import Override, encode_override

COMMIT_S = 0.3
IDLE_S = 0.05


class Membership:
    """Stands in for the consumer thread of Faust's consumer."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tps: set[TP] = set()
        self.deposed = False  # the group continues without this worker
        self._draw = network.draw("commit")

    def assignment(self) -> set[TP]:
        """Return the partitions that this worker believes it owns."""
        return set(self.tps)

    async def commit(self, offsets: dict[TP, int]) -> bool:
        """Commit to the group, unless it has deposed this worker. A lost response is a failed commit."""
        await self.network.pause(self._draw)
        if self.deposed or self.network.fails("commit", self._draw):
            return False
        for tp, offset in offsets.items():
            self.network.cluster.commit_offset(tp.partition, offset)
        await self.network.pause(self._draw)
        return not self.network.fails("commit", self._draw)


def _record(offset: int, override: Override) -> ConsumerRecord:
    """Return the override as a record of its topic."""
    key, value = override.network.encode(), encode_override(override)
    return ConsumerRecord("exemptions", 0, offset, override.created, 0, key, value, None, 0, 0, ())


class _NoProducer:
    async def flush(self) -> None:
        """Do nothing: Faust's own producer has no records."""


class SimulatedWorker:
    """A worker on ``network``, whose name seeds its randomness."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self.network = network
        self.tasks: set[asyncio.Task[Any]] = set()
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()
        self._context: Context = copy_context()
        self._context.run(OWNER.set, self.tasks)
        self._context.run(NETWORK.set, network)
        self._draw = network.draw("worker")
        self._blocks: asyncio.Queue[Future[EventBlock]] = asyncio.Queue(STREAM_BUFFER_BLOCKS)
        self._overrides_read = 0
        self._fetching: dict[int, asyncio.Task[None]] = {}
        self.app = create_app(settings, end=self._fail)
        self.app.loop = asyncio.get_running_loop()
        self.app._producer = cast(Any, _NoProducer())
        self.membership = Membership(network)
        consumer: Any = self.app.transport.create_consumer(
            self._unused,
            on_partitions_revoked=self._revoked,
            on_partitions_assigned=self._assigned,
            commit_interval=1.0,
        )
        consumer._thread = self.membership
        self.consumer = self.app._consumer = consumer

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` as a task of this worker."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    @property
    def partitions(self) -> list[int]:
        """The partitions that it believes it owns."""
        return sorted(tp.partition for tp in self.membership.tps)

    async def start(self) -> None:
        """Start all parts but the group membership."""
        await self.spawn(self.app.publisher.start())
        self._read_overrides()
        self.spawn(self._follow_overrides())
        self.spawn(self.app.shards.run())
        self.spawn(self._agent())
        self.spawn(self._commit())

    def _read_overrides(self) -> list[str]:
        """Add the overrides since the last call to the index; return their networks."""
        new = self.network.cluster.overrides[self._overrides_read :]
        records = [_record(self._overrides_read + i, override) for i, override in enumerate(new)]
        self._overrides_read += len(new)
        return self.app.overrides.add(records)

    async def _follow_overrides(self) -> None:
        draw = self.network.draw("orders")
        while True:
            await self.network.pause(draw)
            await self.app.applier.override(self._read_overrides())
            await asyncio.sleep(draw.choice((0.01, 0.2, 1.0)))

    async def revoke(self) -> None:
        """Revoke all partitions, as an eager rebalance does."""
        if self.membership.tps:
            await self.consumer.on_partitions_revoked(self.membership.assignment())
        self.membership.tps = set()

    async def assign(self, owned: Iterable[int], standbys: Iterable[int]) -> None:
        """Assign owned partitions and standbys."""
        self.membership.tps = {TP("connections", partition) for partition in owned}
        cast(Any, self.app.assignor)._assignment.standbys["connections"] = sorted(standbys)
        self.membership.deposed = False
        await self.consumer.on_partitions_assigned(self.membership.assignment(), 1)

    async def stop(self) -> None:
        """Stop gracefully."""
        if not self.ended.is_set():
            await self.app.on_stop()
            self.ended.set()

    async def kill(self) -> None:
        """End immediately: memory is lost, and requests under way may arrive or not."""
        self.network.dead = True
        self.ended.set()
        while self.tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
        for producer in self.network.producers:
            producer.lose()

    async def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.network.cluster.seen[f"ended by {type(error).__name__}"] += 1
        await self.stop()

    async def _unused(self, *_: Any) -> None:
        raise AssertionError("messages don't arrive this way here")

    async def _revoked(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            if tp.partition in self._fetching:
                self._fetching.pop(tp.partition).cancel()
        while not self._blocks.empty():
            self._blocks.get_nowait()

    async def _assigned(self, tps: Iterable[TP], _generation: int = 0) -> None:
        for tp in sorted(tps):
            if tp.partition not in self._fetching:
                self._fetching[tp.partition] = self.spawn(self._fetch(tp))

    async def _fetch(self, tp: TP) -> None:
        cluster, draw = self.network.cluster, self.network.draw(f"fetch/{tp.partition}")
        await self.network.pause(draw)
        position = cluster.committed[tp.partition]
        for shard in self.app.shards:  # a deposed worker may have applied less than others have committed since
            if shard.partition.number == tp.partition:
                position = min(position, shard.partition.applied_offset + 1)
        while True:
            if draw.random() < self.network.trouble["rewind"]:
                position = draw.randint(0, position)
                cluster.seen["fetches of earlier offsets"] += 1
            raw = cluster.source.partitions[tp.partition].fetch(position, draw.choice((1, 1, 2, 5, 100)))
            if raw:
                records = BlockRecords(tp, RawRecords(raw), [], position, None, None, True, 1)
                for record in records:
                    await self._blocks.put(self._read_block(record.value))
                position = records.next_fetch_offset
            else:
                await asyncio.sleep(IDLE_S)
            await self.network.pause(draw)

    def _read_block(self, block: Block) -> Future[EventBlock]:
        """Read a block without the reading thread: a simulated run has one thread."""
        events: Future[EventBlock] = Future()
        events.set_result(read_block(block, self.app.prefetcher.acquire()))
        return events

    async def _agent(self) -> None:
        """Run the agent, and restart it when a rebalance has cancelled it, as Faust does."""
        agent = self.app.agents["detect"].fun
        while self.failure is None:
            try:
                await agent(self._stream())
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.network.cluster.seen["agents restarted"] += 1

    async def _stream(self) -> AsyncIterator[Future[EventBlock]]:
        while True:
            yield await self._blocks.get()

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(self._draw.uniform(0.5, 1.5) * COMMIT_S)
            await self.consumer.commit()
