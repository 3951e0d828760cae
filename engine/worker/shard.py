"""One partition that this worker owns: opened, checkpointed while it is owned, closed when it is revoked.

A shard's life: fence earlier owners, promote the partition's replica, apply blocks, write checkpoints by time and by changed
rows, and a last one when the partition is revoked or the worker stops; then leave a replica. The offset that may be committed
to the source topic is the one that the last finished checkpoint has applied, never more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mode import get_logger

from engine.decisions.compose import Composer
from engine.decisions.publish_gate import PublishGate
from engine.detector.throttle import Policy
from engine.state.encode import Cut, cut_state
from engine.state.partition import Partition
from engine.worker.changelog import Progress
from engine.worker.replicas import Replica
from topics.decisions import Decision

logger = get_logger(__name__)
PROGRESS_S = 1.0  # between two lines in the log


class CheckpointWriter(Protocol):
    """A changelog's writer, as a shard needs it."""

    position: int

    async def start(self) -> None:
        """Fence every earlier writer."""

    async def stop(self) -> None:
        """Disconnect."""

    async def write(self, cut: Cut) -> None:
        """Make a cut durable."""


@dataclass(slots=True)
class Timing:
    """Costs of the restoration and of checkpoints, for the status."""

    restored_share: float = 0.0  # of the changelog
    restored_rows: int = 0
    restore_s: float = 0.0
    checkpoints: int = 0
    checkpoint_rows: int = 0
    checkpoint_s: float = 0.0
    checkpoint_bytes: int = 0  # of the last one, uncompressed


class CheckpointBarred(Exception):
    """A partition's memory is ahead of every cut that could still be written; the last finished checkpoint counts."""


class Shard:
    """The owner of ``replica``'s partition, of the gate before its decisions, and of its changelog's ``writer``.

    ``flushed`` waits until the published decisions are acknowledged. ``phase`` (0 to 1) is the checkpoints' place in the
    interval: partitions that take turns keep the machine from pausing for all of them together.
    """

    def __init__(
        self,
        replica: Replica,
        writer: CheckpointWriter,
        flushed: Callable[[], Awaitable[None]],
        gate_of: Callable[[Partition], PublishGate],
        phase: float = 0.0,
    ) -> None:
        self.timing = Timing()
        self.durable_offset = -1
        self.closing = False
        # Set when a cut was taken and not written (the next cut would lack its rows), or when a block was applied and not all
        # of its decisions were queued. No checkpoint may follow: the next owner starts at the last finished one.
        self.checkpoint_barred = False
        self.record_time_ms = 0  # greatest record timestamp of the last block, 0 before the first
        self.durable_at_s = time.monotonic()  # when everything applied was last durable
        self.opened = replica.partition.state.site.copy()  # the site as of the takeover
        self.applying = asyncio.Lock()  # held from the first event of a block until its last decision is queued
        self.gate = gate_of(replica.partition)
        self.is_reconciled = False
        self._replica = replica
        self._writer = writer
        self._flushed = flushed
        self._gate_of = gate_of
        self._epoch = 0
        self._phase = phase
        self._last_s = time.monotonic()
        self._writing = asyncio.Lock()

    @property
    def partition(self) -> Partition:
        """The state."""
        return self._replica.partition

    async def open(self) -> None:
        """Take the partition over and restore its state.

        Raises `Fenced` if another worker took it over meanwhile. The first transaction proves that none did: the changelog
        could hold a part of a later owner's checkpoints, or what compaction left of them.
        """
        started_s = shown_s = time.monotonic()

        def show(progress: Progress) -> None:
            nonlocal shown_s
            self.timing.restored_rows, self.timing.restored_share = progress.rows, progress.share
            if time.monotonic() - shown_s > PROGRESS_S:
                shown_s = time.monotonic()
                logger.info("partition %d: %s", self.partition.number, progress)

        await self._writer.start()
        await self._replica.promote(show)
        self._epoch = self._replica.restoration.epoch + 1
        await self._writer.write(cut_state(self.partition, self._epoch))
        self.durable_offset = self.partition.applied_offset
        self.durable_at_s = time.monotonic()
        self.opened = self.partition.state.site.copy()
        self.gate = self._gate_of(self.partition)  # a promotion may have replaced the partition
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

    def reconfigure(self, policy: Policy, composer: Composer) -> Iterable[Decision]:
        """Use another configuration for later events; return the withdrawals of throttles that are in shadow now.

        The caller holds `applying`.
        """
        self.partition.reconfigure(policy)
        self.gate.reconfigure(composer)
        return self.gate.apply_shadow_change() if self.is_reconciled and not self.closing else ()

    def reconcile(self) -> Iterable[Decision]:
        """Return, once, the decisions that an earlier owner may have left unpublished; then nothing."""
        if self.is_reconciled:
            return ()
        self.is_reconciled = True
        return self.gate.reconcile()

    def is_due(self, interval_s: float, max_dirty: int) -> bool:
        """Return True once per interval, offset by this partition's phase, or when too many rows are dirty."""
        if self.partition.applied_offset <= self.durable_offset or self.closing or self._writing.locked():
            return False
        last, now = (math.floor(at_s / interval_s - self._phase) for at_s in (self._last_s, time.monotonic()))
        return now > last or self.partition.dirty >= max_dirty

    async def checkpoint(self) -> None:
        """Make everything applied so far durable; one checkpoint at a time.

        1. Between two blocks, cut the changed rows. Raises `CheckpointBarred` after an earlier failure.
        2. Wait until every decision queued before the cut is acknowledged.
        3. Write the cut in one transaction. A failure in 2 or 3 bars further checkpoints.
        4. Advance the durable offset, which the next commit to the source topic uses.
        """
        async with self._writing:
            if self.partition.applied_offset <= self.durable_offset:
                return
            self._last_s = started_s = time.monotonic()
            async with self.applying:  # 1
                if self.checkpoint_barred:
                    raise CheckpointBarred(f"partition {self.partition.number}: an earlier failure bars checkpoints")
                cut = cut_state(self.partition, self._epoch)
                cut_s, size_bytes = time.monotonic(), sum(len(section.records) for section in cut.sections)
            try:
                await self._flushed()  # 2
                await self._writer.write(cut)  # 3
            except BaseException:
                self.checkpoint_barred = True
                raise
            self.durable_offset, self.durable_at_s = cut.applied_offset, cut_s  # 4
            self.timing.checkpoints += 1
            self.timing.checkpoint_bytes = size_bytes
            self.timing.checkpoint_rows += cut.rows
            self.timing.checkpoint_s += time.monotonic() - started_s

    async def close(self) -> None:
        """Apply no more blocks, and write the last checkpoint."""
        self.closing = True
        await self.checkpoint()

    async def release(self) -> Replica | None:
        """Disconnect from the changelog. Return a replica, or None if memory is ahead of the last checkpoint."""
        await self._writer.stop()
        if self.checkpoint_barred or self.partition.applied_offset != self.durable_offset:
            return None
        self._replica.become_replica(self._writer.position, self._epoch)
        return self._replica
