"""What the agent does with a block that has been read: settle, detect, publish. Control a block, data an event.

Records that are no events go to the dead letters with their reason; the rest of the block goes on. The steps between the
first event and the last queued decision hold the shard's lock, so that a checkpoint never stands for an event whose
decision isn't on its way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from mode import get_logger

from engine.decisions.compose import Composer
from engine.decisions.override_index import KEPT_MS, Book
from engine.decisions.publish_gate import Gate
from engine.kafka.blocks import Block
from engine.kafka.decompress import Unpacked
from engine.metrics.exposition import Histogram
from engine.state.partition import Partition
from engine.worker.prefetch import WORKSPACES, Reading
from engine.worker.publisher import Publisher
from engine.worker.shard import Shard
from engine.worker.shards import Shards
from topics.columns.scan import EventColumns
from topics.columns.slow import Poison, settle
from topics.contracts import EXEMPTIONS
from topics.decisions import OVERRIDE, SHADOW, THROTTLE, Decision, Source

logger = get_logger(__name__)


class Missing(Exception):
    """Offsets that the topic still has were never delivered."""


@dataclass(slots=True)
class Flow:
    """What this process has done since it started (state counts what was ever applied). ``duplicates``: records that came
    again, already applied; ``reasons``, ``shadows``: throttles by reason, and those in shadow; ``latency``: seconds from an
    event to the throttle it led to."""

    blocks: int = 0
    records: int = 0
    duplicates: int = 0
    slow: int = 0
    deleted: int = 0
    releases: int = 0
    withheld: int = 0
    withdrawn: int = 0
    busy_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    shadows: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)

    @property
    def throttles(self) -> int:
        """Of all reasons, none in shadow."""
        return self.reasons.total()

    def note(self, decision: Decision) -> None:
        """Count a decision that is on its way."""
        if decision.verdict == THROTTLE:
            self.reasons[decision.reason] += 1
            if decision.reason == OVERRIDE:
                return
            self.latency.observe(time.time() - decision.issued / 1000)
        elif decision.verdict == SHADOW:
            self.shadows[decision.reason] += 1
        else:
            self.releases += 1


def tell_guard(partition: Partition, trips: int, tripped_ms: int | None) -> None:
    """Log what the fleet guard did in a block. ``trips``, ``tripped_ms``: the partition's before it."""
    if partition.trips > trips:
        logger.warning(
            "partition %d: the guard tripped at event time %d: throttles had begun to hit known senders as a rule; those are "
            "taken back (%d decisions so far), and nobody is throttled anew until that is over",
            partition.number,
            int(partition.state.site["tripped_ms"][0]),
            partition.withdrawn,
        )
    if partition.tripped_ms is None and (tripped_ms is not None or partition.trips > trips):
        logger.warning("partition %d: the guard is armed again, decisions are made", partition.number)


class Engine:
    """Applies blocks to their shards. ``first_offset`` asks the broker for the first offset that a partition still has;
    ``exemptions``: the topic of the overrides, which stand in ``book``."""

    def __init__(
        self,
        shards: Shards,
        publisher: Publisher,
        composer: Composer,
        first_offset: Callable[[int], Awaitable[int]],
        exemptions: str = EXEMPTIONS.name,
    ) -> None:
        self.shards, self.publisher, self.composer = shards, publisher, composer
        self.flow = Flow()
        self.book = Book(kept_ms=KEPT_MS)
        self._first_offset, self._exemptions = first_offset, exemptions
        self._gates: WeakKeyDictionary[Shard, Gate] = WeakKeyDictionary()

    async def take(self, reading: Reading) -> None:
        """Apply a block, unless its partition has gone or all of it was applied before."""
        try:
            await self._take(reading)
        finally:
            WORKSPACES.give_back(reading.workspace)

    async def override(self, networks: Sequence[str]) -> None:
        """What was said of these networks is in the book now: withdraw at once what it covers, on all partitions; on those
        that are new here, what all overrides cover."""
        for shard in self.shards:
            new = shard not in self._gates
            if shard.closing or not (networks or new):
                continue
            async with shard.applying:
                gate = self._gate(shard)
                decisions = gate.anew() if new else gate.at_once(networks)
            await self._publish(gate, decisions)

    def compose_with(self, composer: Composer) -> list[tuple[Gate, Iterator[Decision]]]:
        """Make decisions under another configuration from now on; what has to be said of its shadow, for `say`. No shard may
        be applying a block."""
        self.composer = composer
        for gate in self._gates.values():
            gate.composer = composer
        owned = [self._gates[shard] for shard in self.shards if shard in self._gates and not shard.closing]
        return [(gate, gate.turned()) for gate in owned]

    async def say(self, left: Iterable[tuple[Gate, Iterator[Decision]]]) -> int:
        """Publish what `compose_with` left to be said; how many throttles were withdrawn."""
        before = sum(gate.withdrawn for gate in self._gates.values())
        for gate, decisions in left:
            await self._publish(gate, decisions)
        return sum(gate.withdrawn for gate in self._gates.values()) - before

    def _gate(self, shard: Shard) -> Gate:
        gate = self._gates.get(shard)
        if gate is None:
            gate = self._gates[shard] = Gate(self.book, shard.partition, self.composer, self._exemptions)
        return gate

    async def _publish(self, gate: Gate, decisions: Iterable[Decision]) -> None:
        """Publish as they are made; time that this waits is no work."""
        withheld, withdrawn, started_s = gate.withheld, gate.withdrawn, time.perf_counter()
        for decision in decisions:
            self.flow.busy_s += time.perf_counter() - started_s
            await self.publisher.publish(decision)
            self.flow.note(decision)
            started_s = time.perf_counter()
        self.flow.busy_s += time.perf_counter() - started_s
        self.flow.withheld += gate.withheld - withheld
        self.flow.withdrawn += gate.withdrawn - withdrawn

    async def _take(self, reading: Reading) -> None:
        block = reading.block
        shard = await self.shards.shard(block.partition)
        if shard is None:
            return
        async with shard.applying:
            if shard.closing:
                return
            if block.last_offset <= shard.partition.applied_offset:
                self.flow.duplicates += reading.count
                return
            await self._account_for_gap(block, shard.partition.applied_offset + 1)
            try:
                await self._apply(shard, reading)
            except BaseException:
                shard.spoiled = True
                raise

    async def _account_for_gap(self, block: Block, expected: int) -> None:
        """Offsets between what was applied and a block must have been deleted from the topic; `Missing` if they weren't."""
        if block.first_offset <= expected:
            return
        where = f"partition {block.partition}: offsets {expected} to {block.first_offset - 1}"
        if await self._first_offset(block.partition) < block.first_offset:
            raise Missing(f"{where} were not delivered, though the topic still has them")
        logger.warning("%s were deleted from the topic before they were read", where)
        self.flow.deleted += block.first_offset - expected

    async def _apply(self, shard: Shard, reading: Reading) -> None:
        started_s = time.perf_counter()
        partition, applied = shard.partition, shard.partition.applied_offset
        block, unpacked, columns, count = reading.block, reading.unpacked, reading.columns, reading.count
        settled = settle(columns, count, lambda i: unpacked.value(columns, i))
        self.flow.busy_s += time.perf_counter() - started_s
        new = shard not in self._gates
        gate = self._gate(shard)
        if new:
            await self._publish(gate, gate.anew())
        trips, tripped_ms = partition.trips, partition.tripped_ms
        await self._publish(gate, (decision for _, decision in gate.apply(columns, 0, count)))
        tell_guard(partition, trips, tripped_ms)
        poison = [found for found in settled.poison if columns.offset[found.event] > applied]
        unreadable = np.flatnonzero((unpacked.batches["sound"] == 0) & (unpacked.batches["last_offset"] > applied))
        partition.pass_over(block.last_offset, len(poison) + int(unpacked.batches["records"][unreadable].sum()))
        if block.first_offset <= applied:
            self.flow.duplicates += int(np.count_nonzero(columns.offset[:count] <= applied))
        shard.stamp_ms = int(block.batches["most_ms"].max())
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
            await self.publisher.bury(reason, source, unpacked.value(columns, event))
        for i in unreadable:
            raw = block.batches[i]
            source = Source(block.topic, block.partition, int(raw["base_offset"]))
            octets = block.octets[int(raw["start"]) : int(raw["end"])]
            await self.publisher.bury(f"batch of {raw['records']} records can't be unpacked", source, octets)
