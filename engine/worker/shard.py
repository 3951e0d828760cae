"""One partition that this worker owns: taken over, checkpointed while it stays, closed when it goes.

A shard's life: fence earlier owners, promote the partition's replica, apply blocks, write checkpoints by time and by changed
rows, and a last one when the partition is taken away or the worker stops; then it leaves a replica behind. What may be
committed to the source topic is what the last finished checkpoint has applied, never more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mode import get_logger

from engine.state.encode import take_cut
from engine.state.partition import Partition
from engine.worker.changelog import ChangelogWriter, Progress
from engine.worker.replicas import Replica

logger = get_logger(__name__)
SHOW_S = 1.0


@dataclass(slots=True)
class Timing:
    """What checkpoints and the restoration cost, for the status: seconds, rows, octets (of the latest one, uncompressed).
    ``restored_share``: of the changelog that the restoration has read."""

    restored_share: float = 0.0
    restored_rows: int = 0
    restore_s: float = 0.0
    checkpoints: int = 0
    checkpoint_rows: int = 0
    checkpoint_s: float = 0.0
    checkpoint_octets: int = 0


class Spoiled(Exception):
    """A partition's memory is ahead of what a checkpoint could still save; only the last finished one counts."""


class Shard:
    """The owner of ``replica``'s partition, and what writes its changelog. ``settled`` waits for published decisions.

    ``stamp_ms``: greatest record timestamp of the last block, 0 before it; ``durable_at_s``: since when (monotonic clock)
    everything applied was durable for the last time; ``opened``: SITE[1] as it was when the partition was taken over.

    ``spoiled``: a cut was taken and not written (its rows would be missing from the next one), or a block was applied and
    not all of its decisions were queued. No checkpoint may follow then: the next owner starts at the last finished one.
    ``phase``: where in the interval its checkpoints fall, 0 to 1: partitions that save their state by turns keep a machine
    from standing still while all of them do."""

    def __init__(
        self, replica: Replica, writer: ChangelogWriter, settled: Callable[[], Awaitable[None]], phase: float = 0.0
    ) -> None:
        self.timing = Timing()
        self.durable_offset = -1
        self.closing = False
        self.spoiled = False
        self.stamp_ms = 0
        self.durable_at_s = time.monotonic()
        self.opened = replica.partition.state.site.copy()
        self.applying = asyncio.Lock()  # held from the first event of a block to the last of its decisions in the queue
        self._replica = replica
        self._writer = writer
        self._settled = settled
        self._epoch = 0
        self._phase = phase
        self._last_s = time.monotonic()
        self._writing = asyncio.Lock()

    @property
    def partition(self) -> Partition:
        """The state."""
        return self._replica.partition

    async def open(self) -> None:
        """Take the partition over and restore its state. The first transaction proves that nobody took it over meanwhile:
        a later owner's checkpoints, or what compaction left of them, would have been read in part. `Fenced` then."""
        started_s = shown_s = time.monotonic()

        def show(progress: Progress) -> None:
            nonlocal shown_s
            self.timing.restored_rows, self.timing.restored_share = progress.rows, progress.share
            if time.monotonic() - shown_s > SHOW_S:
                shown_s = time.monotonic()
                logger.info("partition %d: %s", self.partition.number, progress)

        await self._writer.start()
        await self._replica.promote(show)
        self._epoch = self._replica.restoration.epoch + 1
        await self._writer.write(take_cut(self.partition, self._epoch))  # fenced meanwhile: what was read may be torn
        self.durable_offset = self.partition.applied_offset
        self.durable_at_s = time.monotonic()
        self.opened = self.partition.state.site.copy()
        self.timing.restored_share = 1.0
        self.timing.restore_s = time.monotonic() - started_s
        logger.info(
            "partition %d: ready in %.2f s with %d keys, %d rows read; source offset %d",
            self.partition.number,
            self.timing.restore_s,
            self.partition.keys,
            self.timing.restored_rows,
            self.durable_offset,
        )

    def due(self, interval_s: float, most_dirty: int) -> bool:
        """Whether a checkpoint is due: one in each interval of the clock, that begins at this partition's phase."""
        if self.partition.applied_offset <= self.durable_offset or self.closing or self._writing.locked():
            return False
        last, now = (math.floor(at_s / interval_s - self._phase) for at_s in (self._last_s, time.monotonic()))
        return now > last or self.partition.dirty >= most_dirty

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
                cut_s, octets = time.monotonic(), sum(len(section.octets) for section in cut.sections)
            try:
                await self._settled()
                await self._writer.write(cut)
            except BaseException:
                self.spoiled = True
                raise
            self.durable_offset, self.durable_at_s = cut.applied_offset, cut_s
            self.timing.checkpoints += 1
            self.timing.checkpoint_octets = octets
            self.timing.checkpoint_rows += cut.rows
            self.timing.checkpoint_s += time.monotonic() - started_s

    async def close(self) -> None:
        """Apply nothing more, write the last checkpoint."""
        self.closing = True
        await self.checkpoint()

    async def release(self) -> Replica | None:
        """Give the changelog up. What stays is a replica, or None if memory is ahead of the last checkpoint."""
        await self._writer.stop()
        if self.spoiled or self.partition.applied_offset != self.durable_offset:
            return None
        self._replica.left_behind(self._writer.position, self._epoch)
        return self._replica
