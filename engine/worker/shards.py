"""All partitions of a worker: shards of owned partitions, replicas of those that it may have to take over.

A rebalance revokes all partitions and assigns them again. A partition that returns to the same worker, or goes to a standby,
is opened warm. Replicas that an assignment doesn't name are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from faust.types import TP
from mode import get_logger

from engine.config.load import Settings
from engine.decisions.compose import Composer
from engine.decisions.override_index import OverrideIndex
from engine.decisions.publish_gate import PublishGate
from engine.pipeline import build
from engine.state.partition import Partition
from engine.worker.changelog import ChangelogWriter
from engine.worker.replicas import Replica
from engine.worker.shard import Shard
from topics.contracts import CONNECTIONS, EXEMPTIONS, STATE
from topics.decisions import Decision

logger = get_logger(__name__)
CHECK_S = 0.05
CLOSE_S = 10.0  # for a last checkpoint: an unreachable cluster must not delay a stop or a rebalance


class Reconfigured(NamedTuple):
    """The outcome of a change of the configuration."""

    offsets: dict[int, int]  # by partition: the configuration is active after this offset
    withdrawn: int  # throttles that are in shadow now
    decisions: Iterable[Decision]  # their withdrawals, to be published


class Shards:
    """All shards of a worker. Their gates share ``index`` and the present composer.

    ``flushed`` waits until the published decisions are acknowledged. ``on_failure`` is called with an error that ends the
    worker: a fenced writer, an unreadable state.
    """

    def __init__(
        self,
        settings: Settings,
        index: OverrideIndex,
        flushed: Callable[[], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.composer = build.composer(settings)
        self._settings, self._index = settings, index
        prefix = settings.topics.prefix
        self._source, self._state, self._overrides = (prefix + topic.name for topic in (CONNECTIONS, STATE, EXEMPTIONS))
        self._flushed = flushed
        self._on_failure = on_failure
        self._opening: dict[int, asyncio.Task[Shard]] = {}
        self._ready: dict[int, Shard] = {}
        self._restoring: dict[int, Shard] = {}
        self._replicas: dict[int, Replica] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Shard]:
        return iter(list(self._ready.values()))

    def assign(self, tps: Iterable[TP], standbys: Iterable[TP]) -> None:
        """Start to open the shards of those ``tps`` that are of the source topic, and to follow the ``standbys``."""
        for number in self._numbers(tps):
            if number not in self._opening:
                self._opening[number] = opening = asyncio.create_task(self._open(number))
                opening.add_done_callback(_retrieve_error)
        wanted = set(self._numbers(standbys)) - self._opening.keys()
        for number in wanted:
            self._replica(number).follow()
        for number in self._replicas.keys() - wanted - self._opening.keys():
            self._start(self._replicas.pop(number).stop_following())

    async def shard(self, partition: int) -> Shard | None:
        """Return the shard of a partition once it is ready, None if it isn't owned any more."""
        ready = self._ready.get(partition)
        if ready is not None:
            return None if ready.closing else ready
        opening = self._opening.get(partition)
        return None if opening is None else await asyncio.shield(opening)

    def restoring(self) -> dict[int, Shard]:
        """Return the shards that are being opened."""
        return dict(self._restoring)

    def assigned(self) -> list[TP]:
        """Return the source partitions whose shards are ready."""
        return [TP(self._source, number) for number in self._ready]

    def standbys(self) -> list[Replica]:
        """Return the replicas, which follow their changelogs."""
        return list(self._replicas.values())

    async def positions(self) -> dict[TP, int]:
        """Wait for the shards being opened; return the source offset after the last applied one of each state."""
        await asyncio.gather(*map(asyncio.shield, self._opening.values()), return_exceptions=True)
        return {TP(self._source, number): shard.partition.applied_offset + 1 for number, shard in self._ready.items()}

    def durable_offset(self, tp: TP) -> int | None:
        """Return the last source offset that the changelog holds durably, None without one."""
        shard = self._ready.get(tp.partition)
        return None if shard is None or shard.durable_offset < 0 else shard.durable_offset

    async def close(self, tps: Iterable[TP]) -> None:
        """Write the last checkpoints of revoked partitions, within `CLOSE_S`."""
        closing = [self._ready[number] for number in self._numbers(tps) if number in self._ready]
        results = await asyncio.gather(
            *(asyncio.wait_for(shard.close(), CLOSE_S) for shard in closing), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                logger.warning("last checkpoint not written, its events will be read again: %s", repr(error))

    async def drop(self, tps: Iterable[TP]) -> None:
        """Release revoked partitions; their replicas are kept until the next assignment."""
        for number in self._numbers(tps):
            opening = self._opening.pop(number, None)
            if opening is not None and not opening.done():
                opening.cancel()
            shard = self._ready.pop(number, None)
            if shard is not None and (replica := await shard.release()) is not None:
                self._replicas[number] = replica

    async def stop(self) -> None:
        """Release everything."""
        await self.drop([TP(self._source, number) for number in self._opening])
        await asyncio.gather(*(replica.stop_following() for replica in self._replicas.values()))
        self._replicas.clear()

    async def run(self) -> None:
        """Start checkpoints when they are due, until cancelled."""
        worker = self._settings.worker
        while True:
            await asyncio.sleep(CHECK_S)
            for shard in self:
                if shard.is_due(worker.checkpoint_interval_ms / 1000, worker.checkpoint_dirty_rows):
                    self._start(self._watch(shard.checkpoint()))
                    await asyncio.sleep(0)

    async def reconfigure(self, settings: Settings, composer: Composer) -> Reconfigured:
        """Apply other settings to all shards between the same two blocks, then start a checkpoint of each."""
        async with contextlib.AsyncExitStack() as locks:
            shards = list(self)
            for shard in shards:
                await locks.enter_async_context(shard.applying)
            self._settings, self.composer = settings, composer
            owned = (*shards, *self._restoring.values())
            decisions = [shard.reconfigure(build.policy(settings, shard.partition.number), composer) for shard in owned]
            for replica in self._replicas.values():
                replica.partition.reconfigure(build.policy(settings, replica.partition.number))
            withdrawn = sum(shard.gate.drain_counts().withdrawn for shard in shards)
            offsets = {shard.partition.number: shard.partition.applied_offset for shard in shards}
        for shard in shards:
            if not shard.closing:
                self._start(self._watch(shard.checkpoint()))
        return Reconfigured(offsets, withdrawn, chain.from_iterable(decisions))

    def _numbers(self, tps: Iterable[TP]) -> list[int]:
        return [tp.partition for tp in tps if tp.topic == self._source]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _replica(self, number: int) -> Replica:
        """Return the partition's replica, a cold one if there is none."""
        if number not in self._replicas:
            self._replicas[number] = Replica(
                partial(self._empty, number), self._state, self._settings.kafka.client_options()
            )
        return self._replicas[number]

    def _empty(self, number: int) -> Partition:
        return build.partition(self._settings, number)

    def _gate(self, partition: Partition) -> PublishGate:
        return PublishGate(self._index, partition, self.composer, self._overrides)

    async def _watch(self, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 (any error ends the worker, and is raised there)
            self._on_failure(error)

    async def _open(self, number: int) -> Shard:
        settings = self._settings
        writer = ChangelogWriter(self._state, number, settings.worker.app_id, settings.kafka.client_options())
        replica = self._replica(number)
        del self._replicas[number]
        phase = number / settings.topics.partitions
        shard = self._restoring[number] = Shard(replica, writer, self._flushed, self._gate, phase)
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


def _retrieve_error(opening: asyncio.Task[Shard]) -> None:
    """Mark the error of a failed opening as retrieved: it was reported, whether or not a block waits for the shard."""
    if not opening.cancelled():
        opening.exception()
