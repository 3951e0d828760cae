"""Apply decisions, overrides and the other edges' heartbeats from Kafka to the table, until cancelled.

The table is trusted once everything that was on the topics has been read, and for `stale_after_ms` after the last such time.
Without Kafka, decisions still expire by the clock, and look-ups are unaffected until then. After a longer outage the edge reads
everything from scratch, because compaction may have removed releases that it missed.

The consumer is in no group: every edge reads all records, from the snapshot's positions or from the beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from engine.edge.decision_row import DecisionRow, ImplausibleDecision, read_decision
from engine.edge.servers import now_ms
from engine.edge.table import DecisionTable
from engine.kafka.follow import IgnoredRecords, RateLimitedWarning, TopicReader, retry
from engine.metrics.exposition import Histogram
from topics.contracts import DECISIONS, EDGES, EXEMPTIONS
from topics.decisions import RELEASE_HEADER, BadDecision
from topics.heartbeats import BadHeartbeat, decode_heartbeat
from topics.networks import network_of
from topics.overrides import CLIENT, EXEMPT, HELO, REMOVAL_HEADER, BadOverride, Override, decode_record

logger = logging.getLogger(__name__)
CHECK_S = 1.0  # between two checks of the lag
ANSWER_S = 5.0  # for the answer to one
MISSED_HEARTBEATS = 3  # then an edge no longer counts as live
MAX_EDGES = 10_000


class FeedOptions(NamedTuple):
    """Names and times of a feed."""

    prefix: str  # of the topics
    stale_after_ms: int  # how long the table is trusted without Kafka
    heartbeat_ms: int  # between two heartbeats of an edge
    client_options: Mapping[str, Any]
    processes: int = 1  # of this edge; they count as live even without heartbeats


class DecisionFeed:
    """Keeps a table up to date."""

    def __init__(self, table: DecisionTable, options: FeedOptions) -> None:
        self.caught_up_ms = 0  # Unix time at which the topics were last read to their end; 0: never
        self.lag = 0  # records not read yet
        self.unreadable = IgnoredRecords(logger, "unreadable")
        self.implausible = IgnoredRecords(logger, "implausible")
        self.latency = Histogram()  # seconds from event to here, of decisions outside shadow published since the start
        self._positions: dict[TopicPartition, int] = {}
        self._live: dict[TopicPartition, int] = {}  # offsets at which this connection started
        self._table, self._options = table, options
        table.share_among(options.processes)
        self._decisions, self._exemptions, self._edges = (
            options.prefix + topic.name for topic in (DECISIONS, EXEMPTIONS, EDGES)
        )
        self._heartbeats: dict[str, int] = {}  # time of the last one, by edge
        self._warning = RateLimitedWarning(logger, "decisions can't be read from Kafka, trying again: %s")

    @property
    def positions(self) -> dict[str, int]:
        """The next offsets to read, by "topic partition"."""
        return {f"{tp.topic} {tp.partition}": offset for tp, offset in self._positions.items()}

    def resume(self, positions: dict[str, int], caught_up_ms: int) -> None:
        """Continue from a snapshot's positions and time. Call it before `run`."""
        for name, offset in positions.items():
            topic, _, partition = name.rpartition(" ")
            self._positions[TopicPartition(topic, int(partition))] = offset
        self._trust(caught_up_ms)

    async def run(self) -> None:
        """Read and apply records until cancelled."""
        await retry(self._follow, self._warning)

    async def _follow(self) -> None:
        """Read over one connection; starts from scratch if the table is no longer trusted or a topic was recreated."""
        if self.caught_up_ms and now_ms() > self._table.trusted_until_ms:
            self._table.clear()
            self._positions.clear()
        topics = [self._decisions, self._exemptions, self._edges]
        async with TopicReader(topics, self._options.client_options, self._positions) as reader:
            if reader.is_recreated:
                self._table.clear()
            reader.skip_to_end(self._edges)
            self._live = reader.ends
            checking = asyncio.create_task(self._check(reader))
            try:
                async for records in reader:
                    self._apply_all(records)
                    if checking.done():
                        break
                await checking
            finally:
                checking.cancel()
                await asyncio.wait([checking])

    async def _check(self, reader: TopicReader) -> None:
        """Every `CHECK_S`, trust the table if all records that existed at the former check are applied.

        Raises an error if Kafka doesn't answer.
        """
        ends: dict[TopicPartition, int] = {}
        while True:
            at_ms = now_ms()
            newer = await asyncio.wait_for(reader.end_offsets([self._decisions, self._exemptions]), ANSWER_S)
            ends = ends or newer
            self.lag = sum(max(0, end - self._positions.get(tp, 0)) for tp, end in newer.items())
            if all(self._positions.get(tp, 0) >= end for tp, end in ends.items()):
                self._trust(at_ms)
                ends = newer
            self._count_edges(at_ms)
            await asyncio.sleep(CHECK_S if self._table.trusted_until_ms > at_ms else CHECK_S / 20)

    def _trust(self, caught_up_ms: int) -> None:
        self.caught_up_ms = caught_up_ms
        self._table.trust_until(caught_up_ms + self._options.stale_after_ms)

    def _count_edges(self, at_ms: int) -> None:
        silent_ms = at_ms - MISSED_HEARTBEATS * self._options.heartbeat_ms
        self._heartbeats = {name: last_ms for name, last_ms in self._heartbeats.items() if last_ms > silent_ms}
        self._table.share_among(max(self._options.processes, len(self._heartbeats)))

    def _apply_all(self, records: list[ConsumerRecord]) -> None:
        at_ms = now_ms()
        for record in records:
            self._apply(record, at_ms)

    def _apply(self, record: ConsumerRecord, at_ms: int) -> None:
        try:
            if record.topic == self._decisions:
                self._apply_decision(record, at_ms)
            elif record.topic == self._exemptions:
                self._apply_override(record, at_ms)
            else:
                self._apply_heartbeat(record, at_ms)
        except ImplausibleDecision as error:
            self.implausible.add(record, error, at_ms / 1000)
        except (BadDecision, BadOverride, BadHeartbeat) as error:
            self.unreadable.add(record, error, at_ms / 1000)

    def _apply_decision(self, record: ConsumerRecord, at_ms: int) -> None:
        change = read_decision(record.key or b"", record.value, dict(record.headers).get(RELEASE_HEADER), at_ms)
        if isinstance(change, DecisionRow):
            self._table.put(change, at_ms)
            start = self._live.get(TopicPartition(record.topic, record.partition), 0)
            if not change.shadow and record.offset >= start:
                self.latency.observe((at_ms - change.issued_ms) / 1000)
        else:
            self._table.release(change)

    def _apply_override(self, record: ConsumerRecord, at_ms: int) -> None:
        """Add or end an exemption. A manual throttle ends one, too; the engine publishes the throttle as a decision."""
        removal = dict(record.headers).get(REMOVAL_HEADER)
        override = decode_record(record.key or b"", record.value, removal, record.offset)
        if override is None:
            return
        is_active = isinstance(override, Override) and override.lasts(at_ms)
        if override.network.startswith((CLIENT, HELO)):
            if isinstance(override, Override) and is_active:
                self._table.exempt_name(override.network, override.until)
            else:
                self._table.end_name_exemption(override.network)
            return
        network = network_of(override.network)
        if isinstance(override, Override) and is_active and override.kind == EXEMPT:
            self._table.exempt(network, override.until)
        else:
            self._table.end_exemption(network)

    def _apply_heartbeat(self, record: ConsumerRecord, at_ms: int) -> None:
        heartbeat = decode_heartbeat(record.key, record.value)
        if not heartbeat.alive:
            self._heartbeats.pop(heartbeat.edge, None)
        elif heartbeat.edge in self._heartbeats or len(self._heartbeats) < MAX_EDGES:
            self._heartbeats[heartbeat.edge] = at_ms
