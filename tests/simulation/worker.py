"""One simulated worker: the real app with its agent, shards, publisher and consumer, on simulated clients.

Real: everything of `engine.stream` but the process, Faust's services and the fetcher's connection. A fetch may begin at any
offset up to the next one, and a block is made of it as aiokafka's fetcher makes it. What Faust does around a rebalance is
done here in its order: revoke (checkpoint, commit, forget), clear the agent's queue, assign, fetch from the committed offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, cast

from faust.types import TP

from engine.config.load import Settings
from engine.kafka.blocks import Block, BlockRecords, RawRecords
from engine.worker.app import STREAM_BUFFER_BLOCKS, create_app
from engine.worker.prefetch import WORKSPACES, Reading, read
from tests.simulation.clients import NETWORK, Network
from tests.simulation.clock import OWNER

COMMIT_S = 0.3
IDLE_S = 0.05


class Membership:
    """What the consumer thread is to Faust's consumer. ``deposed``: the group goes on without this worker."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tps: set[TP] = set()
        self.deposed = False
        self._draw = network.draw("commit")

    def assignment(self) -> set[TP]:
        """What this worker believes it owns."""
        return set(self.tps)

    async def commit(self, offsets: dict[TP, int]) -> bool:
        """Commit to the group, unless it has moved on; a lost answer is a failed commit."""
        await self.network.pause(self._draw)
        if self.deposed or self.network.fails("commit", self._draw):
            return False
        for tp, offset in offsets.items():
            self.network.cluster.commit_offset(tp.partition, offset)
        await self.network.pause(self._draw)
        return not self.network.fails("commit", self._draw)


def _at_once(block: Block) -> Future[Reading]:
    """A block as the reading thread hands it on, without the thread: a simulated run has one."""
    reading: Future[Reading] = Future()
    reading.set_result(read(block, WORKSPACES.take()))
    return reading


class _NoProducer:
    async def flush(self) -> None:
        """Faust's own producer has nothing to send."""


class SimulatedWorker:
    """``name`` seeds what is special to it."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self.network = network
        self.tasks: set[asyncio.Task[Any]] = set()
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()
        self._context: Context = copy_context()
        self._context.run(OWNER.set, self.tasks)
        self._context.run(NETWORK.set, network)
        self._draw = network.draw("worker")
        self._blocks: asyncio.Queue[Future[Reading]] = asyncio.Queue(STREAM_BUFFER_BLOCKS)
        self._orders_read = 0
        self._fetching: dict[int, asyncio.Task[None]] = {}
        self.app = create_app(settings)
        self.app.loop = asyncio.get_running_loop()
        self.app.stop_soon = self._fail
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
        """Run ``work`` as this worker's own."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    @property
    def partitions(self) -> list[int]:
        """What it believes it owns."""
        return sorted(tp.partition for tp in self.membership.tps)

    async def start(self) -> None:
        """Everything but the group."""
        await self.spawn(self.app.publisher.start())
        self._read_orders()
        self.spawn(self._follow_orders())
        self.spawn(self.app.shards.run())
        self.spawn(self._agent())
        self.spawn(self._commit())

    def _read_orders(self) -> list[str]:
        """Put what operators have said since the last time into the book; the networks."""
        new = self.network.cluster.orders[self._orders_read :]
        self._orders_read += len(new)
        return [network for network in map(self.app.engine.book.take, new) if network is not None]

    async def _follow_orders(self) -> None:
        draw = self.network.draw("orders")
        while True:
            await self.network.pause(draw)
            await self.app.engine.override(self._read_orders())
            await asyncio.sleep(draw.choice((0.01, 0.2, 1.0)))

    async def revoke(self) -> None:
        """All partitions are taken away, as an eager rebalance does."""
        if self.membership.tps:
            await self.consumer.on_partitions_revoked(self.membership.assignment())
        self.membership.tps = set()

    async def assign(self, owned: Iterable[int], standbys: Iterable[int]) -> None:
        """These are what it owns now, and what it keeps warm for others."""
        self.membership.tps = {TP("connections", partition) for partition in owned}
        cast(Any, self.app.assignor)._assignment.standbys["connections"] = sorted(standbys)
        self.membership.deposed = False
        await self.consumer.on_partitions_assigned(self.membership.assignment(), 1)

    async def stop(self) -> None:
        """End gracefully."""
        if not self.ended.is_set():
            await self.app.on_stop()
            self.ended.set()

    async def kill(self) -> None:
        """End at once: nothing in memory counts any more, what is on its way may arrive or not."""
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
        raise AssertionError("messages don't come this way here")

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
        for shard in self.app.shards:  # one that was given up may have less than what others have committed since
            if shard.partition.number == tp.partition:
                position = min(position, shard.partition.applied_offset + 1)
        while True:
            if draw.random() < self.network.trouble["rewind"]:
                position = draw.randint(0, position)
                cluster.seen["fetches from before"] += 1
            octets = cluster.source.partitions[tp.partition].fetch(position, draw.choice((1, 1, 2, 5, 100)))
            if octets:
                records = BlockRecords(tp, RawRecords(octets), [], position, None, None, True, 1)
                for record in records:
                    await self._blocks.put(_at_once(record.value))
                position = records.next_fetch_offset
            else:
                await asyncio.sleep(IDLE_S)
            await self.network.pause(draw)

    async def _agent(self) -> None:
        """Faust restarts an agent that a rebalance cancelled while it waited."""
        agent = self.app.agents["detect"].fun
        while self.failure is None:
            try:
                await agent(self._stream())
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.network.cluster.seen["agents restarted"] += 1

    async def _stream(self) -> AsyncIterator[Future[Reading]]:
        while True:
            yield await self._blocks.get()

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(self._draw.uniform(0.5, 1.5) * COMMIT_S)
            await self.consumer.commit()
