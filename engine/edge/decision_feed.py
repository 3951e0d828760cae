"""Follows decisions, exemptions and the other edges' heartbeats on Kafka into the table, for ever, whatever happens to Kafka.

The table is trusted from the moment at which everything that was on the topics has been read, and for `stale_after` beyond
each later such moment. Without Kafka decisions go on lapsing by the clock and look-ups notice nothing until then. Who was
away for longer begins anew: compaction may have removed the releases it missed.

The consumer is in no group: every edge reads everything, from the snapshot's positions or from the beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from engine.edge.decision_row import DecisionRow, read_decision
from engine.edge.servers import now_ms
from engine.edge.table import DecisionTable
from engine.kafka.follow import RateLimitedWarning, TopicReader, retry
from engine.metrics.exposition import Histogram
from topics.contracts import DECISIONS, EDGES, EXEMPTIONS
from topics.decisions import RELEASE_HEADER, BadDecision
from topics.networks import network_of
from topics.overrides import CLIENT, EXEMPT, HELO, REMOVAL_HEADER, BadExemption, Override, decode_record

logger = logging.getLogger(__name__)
CHECK_S = 1.0
ANSWER_S = 5.0
MISSED_BEATS = 3
MOST_EDGES = 10_000


class FeedOptions(NamedTuple):
    """``prefix``: of the topics; ``stale_after_ms``: how long the table is trusted without Kafka; ``processes``: of this edge,
    which count as alive whether heard of or not."""

    prefix: str
    stale_after_ms: int
    heartbeat_ms: int
    client_options: Mapping[str, Any]
    processes: int = 1


class DecisionFeed:
    """Feeds ``table``. ``latency``: seconds from event to here,
    of decisions that came while this edge was there to hear them, those in shadow left out."""

    def __init__(self, table: DecisionTable, options: FeedOptions) -> None:
        self.heard_ms = 0
        self.lag = 0
        self.unreadable = 0
        self.latency = Histogram()
        self._positions: dict[TopicPartition, int] = {}
        self._live: dict[TopicPartition, int] = {}
        self._table, self._options = table, options
        table.edges = options.processes
        self._decisions, self._exemptions, self._edges = (
            options.prefix + topic.name for topic in (DECISIONS, EXEMPTIONS, EDGES)
        )
        self._beats: dict[str, int] = {}
        self._warning = RateLimitedWarning(logger, "Kafka can't be followed, trying again: %s")

    @property
    def positions(self) -> dict[str, int]:
        """The next offsets to read, by "topic partition"."""
        return {f"{tp.topic} {tp.partition}": offset for tp, offset in self._positions.items()}

    def resume(self, positions: dict[str, int], heard_ms: int) -> None:
        """Go on where a snapshot ended."""
        for name, offset in positions.items():
            topic, _, partition = name.rpartition(" ")
            self._positions[TopicPartition(topic, int(partition))] = offset
        self._trust(heard_ms)

    async def run(self) -> None:
        """Follow until cancelled."""
        await retry(self._follow, self._warning)

    async def _follow(self) -> None:
        if self.heard_ms and now_ms() > self._table.trusted_until_ms:
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
        """Every second: is Kafka there, and is everything read that was there a second ago? Ends when it is not there."""
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

    def _trust(self, heard_ms: int) -> None:
        self.heard_ms = heard_ms
        self._table.trusted_until_ms = heard_ms + self._options.stale_after_ms

    def _count_edges(self, at_ms: int) -> None:
        silent_ms = at_ms - MISSED_BEATS * self._options.heartbeat_ms
        self._beats = {name: beat_ms for name, beat_ms in self._beats.items() if beat_ms > silent_ms}
        self._table.edges = max(self._options.processes, len(self._beats))

    def _apply_all(self, records: list[ConsumerRecord]) -> None:
        at_ms = now_ms()
        for record in records:
            self._apply(record, at_ms)

    def _apply(self, record: ConsumerRecord, at_ms: int) -> None:
        try:
            if record.topic == self._decisions:
                self._decide(record, at_ms)
            elif record.topic == self._exemptions:
                self._override(record, at_ms)
            else:
                self._beat(record, at_ms)
        except (BadDecision, BadExemption, ValueError) as error:
            self.unreadable += 1
            logger.warning("%s %d at %d is left out: %s", record.topic, record.partition, record.offset, error)

    def _decide(self, record: ConsumerRecord, at_ms: int) -> None:
        found = read_decision(record.key or b"", record.value, dict(record.headers).get(RELEASE_HEADER))
        if isinstance(found, DecisionRow):
            self._table.put(found, at_ms)
            if not found.shadow and record.offset >= self._live.get(TopicPartition(record.topic, record.partition), 0):
                self.latency.observe((at_ms - found.issued_ms) / 1000)
        else:
            self._table.release(found)

    def _override(self, record: ConsumerRecord, at_ms: int) -> None:
        removal = dict(record.headers).get(REMOVAL_HEADER)
        said = decode_record(record.key or b"", record.value, removal, record.offset)
        if said is None:
            return
        lasts = isinstance(said, Override) and said.lasts(at_ms)
        if said.network.startswith((CLIENT, HELO)):
            if isinstance(said, Override) and lasts:
                self._table.exempt_name(said.network, said.until)
            else:
                self._table.names.pop(said.network, None)
            return
        network = network_of(said.network)
        if isinstance(said, Override) and lasts and said.kind == EXEMPT:
            self._table.exempt(network, said.until)
        else:  # taken back, over, or a throttle by hand, which comes as a decision
            self._table.end_exemption(network)

    def _beat(self, record: ConsumerRecord, at_ms: int) -> None:
        name, beat = (record.key or b"").decode(errors="replace"), orjson.loads(record.value or b"null")
        if not isinstance(beat, dict) or not beat.get("alive"):
            self._beats.pop(name, None)
        elif name in self._beats or len(self._beats) < MOST_EDGES:
            self._beats[name] = at_ms
