"""The partitions that this worker owns: restored when they come, checkpointed while they stay, closed when they go.

A shard's life: fence earlier owners, read the changelog, apply blocks, write checkpoints by time and by changed rows, and a
last one when the partition is taken away or the worker stops. What may be committed to the source topic is what the last
finished checkpoint has applied, never more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from faust.types import TP
from mode import get_logger

from engine import assembly
from engine.config import Settings
from engine.policy.partition import Partition
from engine.policy.snapshot import take_cut
from engine.stream.changelog import ChangelogWriter, restore

logger = get_logger(__name__)
CHECK_S = 0.05
CLOSE_S = 10.0  # for a last checkpoint: a cluster that is away must not hold up a stop or a rebalance


@dataclass(slots=True)
class Timing:
    """What checkpoints and the restoration cost, for the status: seconds, rows."""

    restored_rows: int = 0
    restore_s: float = 0.0
    checkpoints: int = 0
    checkpoint_rows: int = 0
    checkpoint_s: float = 0.0


class Spoiled(Exception):
    """A partition's memory is ahead of what a checkpoint could still save; only the last finished one counts."""


class Shard:
    """One partition, its changelog and the task that writes it. ``settled`` waits for published decisions.

    ``spoiled``: a cut was taken and not written (its rows would be missing from the next one), or a block was applied and
    not all of its decisions were queued. No checkpoint may follow then: the next owner starts at the last finished one."""

    def __init__(self, partition: Partition, writer: ChangelogWriter, settled: Callable[[], Awaitable[None]]) -> None:
        self.partition = partition
        self.timing = Timing()
        self.durable_offset = -1
        self.closing = False
        self.spoiled = False
        self.applying = asyncio.Lock()  # held from the first event of a block to the last of its decisions in the queue
        self._writer = writer
        self._settled = settled
        self._epoch = 0
        self._last_s = time.monotonic()
        self._writing = asyncio.Lock()

    async def open(self, topic: str, settings: Settings) -> None:
        """Take the partition over and restore its state. The first transaction proves that nobody took it over meanwhile:
        a later owner's checkpoints, or what compaction left of them, would have been read in part. `Fenced` then."""
        started_s = time.monotonic()
        await self._writer.start()
        shown = started_s

        def progress(rows: int, octets: int) -> None:
            nonlocal shown
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                logger.info("partition %d: %d rows, %.0f MB restored", self.partition.number, rows, octets / 1e6)

        restoration = await restore(self.partition, topic, settings.kafka.client_options(), progress)
        self._epoch = restoration.epoch + 1
        await self._writer.write(take_cut(self.partition, self._epoch))  # fenced meanwhile: what was read may be torn
        self.durable_offset = self.partition.applied_offset
        self.timing.restored_rows, self.timing.restore_s = restoration.rows, time.monotonic() - started_s
        logger.info(
            "partition %d: %d keys restored in %.2f s, source offset %d",
            self.partition.number,
            self.partition.keys,
            self.timing.restore_s,
            self.durable_offset,
        )

    def due(self, interval_s: float, most_dirty: int) -> bool:
        """Whether a checkpoint is due."""
        if self.partition.applied_offset <= self.durable_offset or self.closing or self._writing.locked():
            return False
        return self.partition.dirty >= most_dirty or time.monotonic() - self._last_s >= interval_s

    async def checkpoint(self) -> None:
        """Make everything applied so far durable; one at a time."""
        async with self._writing:
            if self.partition.applied_offset <= self.durable_offset:
                return
            self._last_s = started_s = time.monotonic()
            async with self.applying:
                if self.spoiled:
                    raise Spoiled(f"partition {self.partition.number}: an earlier failure bars checkpoints")
                cut = take_cut(self.partition, self._epoch)
            try:
                await self._settled()
                await self._writer.write(cut)
            except BaseException:
                self.spoiled = True
                raise
            self.durable_offset = cut.applied_offset
            self.timing.checkpoints += 1
            self.timing.checkpoint_rows += cut.rows
            self.timing.checkpoint_s += time.monotonic() - started_s

    async def close(self) -> None:
        """Apply nothing more, write the last checkpoint."""
        self.closing = True
        await self.checkpoint()

    async def release(self) -> None:
        """Give the changelog up."""
        await self._writer.stop()


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
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Shard]:
        return iter(list(self._ready.values()))

    def assign(self, tps: Iterable[TP]) -> None:
        """Begin to open the shards of newly assigned partitions of the source topic."""
        for tp in tps:
            if tp.topic == self._source and tp.partition not in self._opening:
                self._opening[tp.partition] = asyncio.create_task(self._open(tp.partition))

    async def shard(self, partition: int) -> Shard | None:
        """The shard of a partition, once it is ready; None when it isn't ours any more."""
        ready = self._ready.get(partition)
        if ready is not None:
            return None if ready.closing else ready
        opening = self._opening.get(partition)
        return None if opening is None else await asyncio.shield(opening)

    def assigned(self) -> list[TP]:
        """The source partitions whose shards are ready."""
        return [TP(self._source, number) for number in self._ready]

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
        going = [self._ready[tp.partition] for tp in tps if tp.topic == self._source and tp.partition in self._ready]
        results = await asyncio.gather(
            *(asyncio.wait_for(shard.close(), CLOSE_S) for shard in going), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                logger.warning("last checkpoint not written, its events will be read again: %s", repr(error))

    async def drop(self, tps: Iterable[TP]) -> None:
        """Forget partitions that are gone."""
        for tp in tps:
            if tp.topic != self._source:
                continue
            opening = self._opening.pop(tp.partition, None)
            if opening is not None and not opening.done():
                opening.cancel()
            shard = self._ready.pop(tp.partition, None)
            if shard is not None:
                await shard.release()

    async def run(self) -> None:
        """Start checkpoints when they are due, until cancelled."""
        worker = self._settings.worker
        while True:
            await asyncio.sleep(CHECK_S)
            for shard in list(self._ready.values()):
                if shard.due(worker.checkpoint_interval_ms / 1000, worker.checkpoint_dirty_rows):
                    task = asyncio.create_task(self._watch(shard.checkpoint()))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    await asyncio.sleep(0)

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
        shard = Shard(assembly.partition(settings, number), writer, self._settled)
        try:
            await shard.open(self._state, settings)
        except asyncio.CancelledError:
            await shard.release()
            raise
        except Exception as error:
            self._on_failure(error)
            raise
        self._ready[number] = shard
        return shard
