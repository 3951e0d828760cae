"""Apply a block that has been read: settle its records, detect, publish. Control per block, data per event.

Records that are not events become dead letters with their reason; the rest of the block is applied. The shard's lock is held
from the first event until the last decision is queued. So a checkpoint never includes an event whose decision isn't queued.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from mode import get_logger

from engine.decisions.compose import Composer
from engine.decisions.publish_gate import GateCounts
from engine.kafka.blocks import Block
from engine.kafka.decompress import Unpacked
from engine.metrics.exposition import Histogram
from engine.state.partition import Partition
from engine.worker.prefetch import EventBlock
from engine.worker.replicas import Replica
from engine.worker.shard import Shard
from topics.columns.scan import EventColumns
from topics.columns.slow import Poison, settle
from topics.decisions import OVERRIDE, SHADOW, THROTTLE, Decision, Source

logger = get_logger(__name__)


class MissingOffsets(Exception):
    """Offsets that the topic still has were never delivered."""


class OwnedShards(Protocol):
    """The shards of a worker, as the applier and its status need them."""

    composer: Composer

    def __iter__(self) -> Iterator[Shard]:
        """Iterate over the shards that are ready."""

    async def shard(self, partition: int) -> Shard | None:
        """Return the shard of a partition once it is ready, None if it isn't owned."""

    def restoring(self) -> dict[int, Shard]:
        """Return the shards that are being opened."""

    def standbys(self) -> list[Replica]:
        """Return the replicas that follow their changelogs."""


class DecisionSink(Protocol):
    """The publisher, as the applier needs it."""

    async def publish(self, decision: Decision) -> None:
        """Queue a decision."""

    async def bury(self, reason: str, source: Source, value: bytes) -> None:
        """Queue a dead letter."""


@dataclass(slots=True)
class Flow:
    """Work of this process since its start. (The state counts what was ever applied.)"""

    blocks: int = 0
    records: int = 0
    duplicates: int = 0  # records delivered again after they were applied
    slow: int = 0
    deleted: int = 0
    releases: int = 0
    withheld: int = 0
    withdrawn: int = 0
    busy_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)  # published throttles
    shadows: Counter[str] = field(default_factory=Counter)  # those in shadow
    latency: Histogram = field(default_factory=Histogram)  # seconds from an event to its throttle

    @property
    def throttles(self) -> int:
        """Published throttles of all reasons, none in shadow."""
        return self.reasons.total()

    def count(self, decision: Decision) -> None:
        """Count a queued decision."""
        if decision.verdict == THROTTLE:
            self.reasons[decision.reason] += 1
            if decision.reason == OVERRIDE:
                return
            self.latency.observe(time.time() - decision.issued / 1000)
        elif decision.verdict == SHADOW:
            self.shadows[decision.reason] += 1
        else:
            self.releases += 1

    def count_unpublished(self, counts: GateCounts) -> None:
        """Count the throttles that a gate has withheld and withdrawn."""
        self.withheld += counts.withheld
        self.withdrawn += counts.withdrawn


def log_breaker(partition: Partition, trips: int, tripped_ms: int | None) -> None:
    """Log a change of the circuit breaker in a block. ``trips`` and ``tripped_ms`` are the partition's before the block."""
    if partition.breaker_trips > trips:
        logger.warning(
            "partition %d: the circuit breaker tripped at event time %d: throttles had begun to hit known senders as a rule; "
            "those are withdrawn (%d decisions so far), and no sender is throttled while it is open",
            partition.number,
            int(partition.state.site["breaker_tripped_ms"][0]),
            partition.breaker_withdrawn,
        )
    if partition.breaker_tripped_ms is None and (tripped_ms is not None or partition.breaker_trips > trips):
        logger.warning("partition %d: the circuit breaker is re-armed, decisions are made", partition.number)


class BlockApplier:
    """Applies blocks to their shards and publishes the decisions.

    ``first_offset`` asks the broker for the first offset that a partition still has.
    """

    def __init__(
        self, shards: OwnedShards, publisher: DecisionSink, first_offset: Callable[[int], Awaitable[int]]
    ) -> None:
        self.flow = Flow()
        self.ending = ""  # why the worker is about to end
        self.shards, self._publisher, self._first_offset = shards, publisher, first_offset

    @property
    def composer(self) -> Composer:
        """What makes the decisions under the active configuration."""
        return self.shards.composer

    def report_end(self, reason: str) -> None:
        """Show in the status that the worker is about to end."""
        self.ending = reason

    async def apply(self, events: EventBlock) -> None:
        """Apply a block, unless its partition isn't owned or all of it was applied before.

        Raises `MissingOffsets` if the block doesn't follow the last one and the topic still has the offsets between.
        """
        block = events.block
        shard = await self.shards.shard(block.partition)
        if shard is None:
            return
        async with shard.applying:
            if shard.closing:
                return
            if block.last_offset <= shard.partition.applied_offset:
                self.flow.duplicates += events.count
                return
            await self._account_for_gap(block, shard.partition.applied_offset + 1)
            try:
                await self._apply(shard, events)
            except BaseException:
                shard.checkpoint_barred = True
                raise

    async def override(self, networks: Sequence[str]) -> None:
        """Publish, on all partitions, the effect of the latest overrides of these networks.

        A shard that was opened since the last call publishes the effects of all overrides.
        """
        for shard in self.shards:
            if shard.closing or (shard.is_reconciled and not networks):
                continue
            async with shard.applying:
                decisions = shard.gate.apply_now(networks) if shard.is_reconciled else shard.reconcile()
                self.flow.count_unpublished(shard.gate.drain_counts())
            await self.publish(decisions)

    async def publish(self, decisions: Iterable[Decision]) -> None:
        """Queue decisions as they are composed; waiting for the publisher doesn't count as busy."""
        started_s = time.perf_counter()
        for decision in decisions:
            self.flow.busy_s += time.perf_counter() - started_s
            await self._publisher.publish(decision)
            self.flow.count(decision)
            started_s = time.perf_counter()
        self.flow.busy_s += time.perf_counter() - started_s

    async def _account_for_gap(self, block: Block, expected: int) -> None:
        """Count the offsets between the last applied one and a block as deleted from the topic; raise if they weren't."""
        if block.first_offset <= expected:
            return
        where = f"partition {block.partition}: offsets {expected} to {block.first_offset - 1}"
        if await self._first_offset(block.partition) < block.first_offset:
            raise MissingOffsets(f"{where} were not delivered, though the topic still has them")
        logger.warning("%s were deleted from the topic before they were read", where)
        self.flow.deleted += block.first_offset - expected

    async def _apply(self, shard: Shard, events: EventBlock) -> None:
        """Apply a block that has offsets after the applied one.

        1. Decide the records that the fast scan left open.
        2. Publish what an earlier owner may have left unpublished.
        3. Detect, and publish the decisions.
        4. Skip to the block's end, count, and bury the records that are not events.
        """
        started_s = time.perf_counter()
        partition, applied = shard.partition, shard.partition.applied_offset
        block, unpacked, columns, count = events.block, events.unpacked, events.columns, events.count
        settled = settle(columns, count, lambda i: unpacked.value(columns, i))  # 1
        self.flow.busy_s += time.perf_counter() - started_s
        await self.publish(shard.reconcile())  # 2
        trips, tripped_ms, started_s = partition.breaker_trips, partition.breaker_tripped_ms, time.perf_counter()
        decisions = shard.gate.apply(columns, 0, count)  # 3
        self.flow.busy_s += time.perf_counter() - started_s
        self.flow.count_unpublished(shard.gate.drain_counts())
        await self.publish(decision for _, decision in decisions)
        log_breaker(partition, trips, tripped_ms)
        poison = [record for record in settled.poison if columns.offset[record.event] > applied]  # 4
        unreadable = np.flatnonzero((unpacked.batches["sound"] == 0) & (unpacked.batches["last_offset"] > applied))
        partition.skip_to(block.last_offset, len(poison) + int(unpacked.batches["records"][unreadable].sum()))
        if block.first_offset <= applied:
            self.flow.duplicates += int(np.count_nonzero(columns.offset[:count] <= applied))
        shard.record_time_ms = int(block.batches["most_ms"].max())
        self.flow.blocks += 1
        self.flow.records += count
        self.flow.slow += settled.slow
        await self._bury(unpacked, columns, poison, unreadable.tolist())

    async def _bury(
        self, unpacked: Unpacked, columns: EventColumns, poison: list[Poison], unreadable: list[int]
    ) -> None:
        block = unpacked.block
        for event, reason in poison:
            source = Source(block.topic, block.partition, int(columns.offset[event]))
            await self._publisher.bury(reason, source, unpacked.value(columns, event))
        for i in unreadable:
            batch = block.batches[i]
            source = Source(block.topic, block.partition, int(batch["base_offset"]))
            records = block.raw[int(batch["start"]) : int(batch["end"])]
            await self._publisher.bury(f"batch of {batch['records']} records can't be unpacked", source, records)
