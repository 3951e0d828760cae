"""All partitions of a worker: shards of those that it owns, replicas of those that it may have to take over.

A rebalance revokes everything and deals it out anew: what comes back to the same worker, or goes to a standby, is taken over
warm. Replicas that an assignment doesn't name are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

from faust.types import TP
from mode import get_logger

from engine.config.load import Settings
from engine.pipeline import build
from engine.state.partition import Partition
from engine.worker.changelog import ChangelogWriter
from engine.worker.replicas import Replica
from engine.worker.shard import Shard

logger = get_logger(__name__)
CHECK_S = 0.05
CLOSE_S = 10.0  # for a last checkpoint: a cluster that is away must not hold up a stop or a rebalance


class Shards:
    """All shards of a worker. ``on_failure`` is told of what ends the worker: a fenced writer, an unreadable state."""

    def __init__(
        self,
        settings: Settings,
        topics: tuple[str, str],
        settled: Callable[[], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._source, self._state = topics
        self._settled = settled
        self._on_failure = on_failure
        self._opening: dict[int, asyncio.Task[Shard]] = {}
        self._ready: dict[int, Shard] = {}
        self._restoring: dict[int, Shard] = {}
        self._replicas: dict[int, Replica] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Shard]:
        return iter(list(self._ready.values()))

    def assign(self, tps: Iterable[TP], standbys: Iterable[TP]) -> None:
        """Begin to open the shards of ``tps``, as far as they are of the source topic, and to follow the ``standbys``."""
        for number in self._numbers(tps):
            if number not in self._opening:
                self._opening[number] = opening = asyncio.create_task(self._open(number))
                opening.add_done_callback(_told)
        wanted = set(self._numbers(standbys)) - self._opening.keys()
        for number in wanted:
            self._replica(number).follow()
        for number in self._replicas.keys() - wanted - self._opening.keys():
            self._begin(self._replicas.pop(number).rest())

    async def shard(self, partition: int) -> Shard | None:
        """The shard of a partition, once it is ready; None when it isn't ours any more."""
        ready = self._ready.get(partition)
        if ready is not None:
            return None if ready.closing else ready
        opening = self._opening.get(partition)
        return None if opening is None else await asyncio.shield(opening)

    def restoring(self) -> dict[int, Shard]:
        """The shards that are being opened."""
        return dict(self._restoring)

    def assigned(self) -> list[TP]:
        """The source partitions whose shards are ready."""
        return [TP(self._source, number) for number in self._ready]

    def standbys(self) -> list[Replica]:
        """The replicas that read along."""
        return list(self._replicas.values())

    async def positions(self) -> dict[TP, int]:
        """Once the shards being opened are ready: the source offset behind what each state has applied."""
        await asyncio.gather(*map(asyncio.shield, self._opening.values()), return_exceptions=True)
        return {TP(self._source, number): shard.partition.applied_offset + 1 for number, shard in self._ready.items()}

    def durable_offset(self, tp: TP) -> int | None:
        """The last source offset that the changelog holds durably, None without one."""
        shard = self._ready.get(tp.partition)
        return None if shard is None or shard.durable_offset < 0 else shard.durable_offset

    async def close(self, tps: Iterable[TP]) -> None:
        """Write the last checkpoints of partitions that go."""
        going = [self._ready[number] for number in self._numbers(tps) if number in self._ready]
        results = await asyncio.gather(
            *(asyncio.wait_for(shard.close(), CLOSE_S) for shard in going), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                logger.warning("last checkpoint not written, its events will be read again: %s", repr(error))

    async def drop(self, tps: Iterable[TP]) -> None:
        """Give up partitions that are gone; what their shards leave behind is kept until the next assignment."""
        for number in self._numbers(tps):
            opening = self._opening.pop(number, None)
            if opening is not None and not opening.done():
                opening.cancel()
            shard = self._ready.pop(number, None)
            if shard is not None and (replica := await shard.release()) is not None:
                self._replicas[number] = replica

    async def stop(self) -> None:
        """Give up everything."""
        await self.drop([TP(self._source, number) for number in self._opening])
        await asyncio.gather(*(replica.rest() for replica in self._replicas.values()))
        self._replicas.clear()

    async def run(self) -> None:
        """Start checkpoints when they are due, until cancelled."""
        worker = self._settings.worker
        while True:
            await asyncio.sleep(CHECK_S)
            for shard in self:
                if shard.due(worker.checkpoint_interval_ms / 1000, worker.checkpoint_dirty_rows):
                    self._begin(self._watch(shard.checkpoint()))
                    await asyncio.sleep(0)

    async def turn(self, settings: Settings, also: Callable[[], None]) -> dict[int, int]:
        """Go on under other settings, and do ``also``, at one moment between two blocks of every shard; the offset behind which
        they hold, by partition. A checkpoint of each follows at once."""
        async with contextlib.AsyncExitStack() as held:
            shards = list(self)
            for shard in shards:
                await held.enter_async_context(shard.applying)
            self._settings = settings
            also()
            kept = [shard.partition for shard in (*shards, *self._restoring.values())]
            for partition in [*kept, *(replica.partition for replica in self._replicas.values())]:
                partition.policy = build.policy(settings, partition.number)
            offsets = {shard.partition.number: shard.partition.applied_offset for shard in shards}
        for shard in shards:
            if not shard.closing:
                self._begin(self._watch(shard.checkpoint()))
        return offsets

    def _numbers(self, tps: Iterable[TP]) -> list[int]:
        return [tp.partition for tp in tps if tp.topic == self._source]

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _replica(self, number: int) -> Replica:
        """The partition's replica, a cold one if there is none."""
        if number not in self._replicas:
            self._replicas[number] = Replica(
                partial(self._empty, number), self._state, self._settings.kafka.client_options()
            )
        return self._replicas[number]

    def _empty(self, number: int) -> Partition:
        return build.partition(self._settings, number)

    async def _watch(self, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is ends the worker, and is raised there)
            self._on_failure(error)

    async def _open(self, number: int) -> Shard:
        settings = self._settings
        writer = ChangelogWriter(self._state, number, settings.worker.app_id, settings.kafka.client_options())
        replica = self._replica(number)
        del self._replicas[number]
        phase = number / settings.topics.partitions
        shard = self._restoring[number] = Shard(replica, writer, self._settled, phase)
        try:
            await shard.open()
        except asyncio.CancelledError:
            await writer.stop()
            raise
        except Exception as error:
            self._on_failure(error)
            raise
        finally:
            if self._restoring.get(number) is shard:
                del self._restoring[number]
        self._ready[number] = shard
        return shard


def _told(opening: asyncio.Task[Shard]) -> None:
    """A failed opening has been told already, whether or not a block waits for it."""
    if not opening.cancelled():
        opening.exception()
