"""The site's decisions, overrides and edges for the page, as their topics have them. Bounded; decisions are kept as bytes.

A worker's page shows all decisions, those of other workers and those from before its start too. It reads the topics of
decisions and edges from their beginning, at most 100 records before each pause, so a busy engine hardly notices. Overrides
come from the worker's own reader. Limits: `MAX_THROTTLES`, `MAX_HISTORY`, `MAX_OVERRIDES`, `MAX_EDGES`; at a limit the oldest
throttle or history entry is dropped, and new overrides and edges are not shown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from engine.kafka.follow import IgnoredRecords, RateLimitedWarning, TopicReader, retry
from topics.contracts import DECISIONS, EDGES
from topics.decisions import RELEASE_HEADER, THROTTLE, BadDecision, Decision, Precedence, decode_decision, supersedes
from topics.heartbeats import BadHeartbeat, decode_heartbeat
from topics.networks import canonical_network, network_of, overlap
from topics.overrides import Override, OverrideRecord
from topics.words import decision_text

logger = logging.getLogger(__name__)
PAUSE_S = 0.01
MAX_THROTTLES = 50_000
MAX_HISTORY = 5_000
MAX_OVERRIDES = 10_000
MAX_EDGES = 1_000


@dataclass(slots=True)
class LoggedDecision:
    """A decision as bytes, with the fields that lists are sorted and filtered by."""

    network: str
    issued: int  # ms
    until: int  # ms
    verdict: str
    reason: str
    source: tuple[str, int]  # topic and partition
    precedence: Precedence  # among decisions of its network and source
    value: bytes

    def decision(self) -> Decision:
        """Decode the whole decision."""
        return decode_decision(self.value)


def parse_logged(value: bytes) -> LoggedDecision:
    """Read a decision; `BadDecision` if it isn't one."""
    full = decode_decision(value)
    source = (full.source.topic, full.source.partition)
    return LoggedDecision(
        full.network, full.issued, full.until, full.verdict, full.reason, source, full.precedence, value
    )


class DecisionLog:
    """The current content of three topics. ``prefix``: of their names; ``watch``: networks whose throttles are reported."""

    def __init__(self, prefix: str, options: Mapping[str, Any], watch: Sequence[str] = ()) -> None:
        self.throttles: dict[str, LoggedDecision] = {}  # by network, the last published at the end
        self._releases: dict[str, LoggedDecision] = {}  # of throttles that would not have expired yet, by network
        self.history: deque[LoggedDecision] = deque(maxlen=MAX_HISTORY)  # decisions and releases, in order of arrival
        self.overrides: dict[str, Override] = {}  # by network
        self.override_history: deque[OverrideRecord] = deque(maxlen=MAX_HISTORY)
        self.heartbeats: dict[str, int] = {}  # last one of each edge, ms; 0 once it was stopped properly
        self.unreadable = IgnoredRecords(logger, "unreadable")
        self.is_caught_up = False  # everything written before the start has been read
        self._watch = [network_of(canonical_network(network)) for network in watch]
        self._watched: dict[str, LoggedDecision] = {}
        self._options = options
        self._decisions, self._edges = prefix + DECISIONS.name, prefix + EDGES.name
        self._positions: dict[TopicPartition, int] = {}

    async def run(self) -> None:
        """Follow the topics until cancelled."""
        await retry(self._follow, RateLimitedWarning(logger, "decisions can't be read, trying again: %s"))

    async def _follow(self) -> None:
        async with TopicReader([self._decisions, self._edges], self._options, self._positions) as reader:
            async for records in reader:
                self.apply(records)
                self.is_caught_up = self.is_caught_up or reader.is_caught_up
                await asyncio.sleep(PAUSE_S)

    def apply(self, records: Sequence[ConsumerRecord]) -> None:
        """Apply records of one partition; unreadable ones are logged and ignored."""
        for record in records:
            try:
                self._apply(record)
            except (BadDecision, BadHeartbeat) as error:
                self.unreadable.add(record, error, time.monotonic())

    def _apply(self, record: ConsumerRecord) -> None:
        if record.topic == self._decisions:
            value = record.value or dict(record.headers).get(RELEASE_HEADER)
            if value is None:
                name = (record.key or b"").decode(errors="replace")
                self.throttles.pop(name, None)
                self._watched.pop(name, None)
            else:
                self._apply_decision(parse_logged(value))
        else:
            heartbeat = decode_heartbeat(record.key, record.value)
            if heartbeat.edge in self.heartbeats or len(self.heartbeats) < MAX_EDGES:
                self.heartbeats[heartbeat.edge] = heartbeat.ts if heartbeat.alive else 0

    def _apply_decision(self, new: LoggedDecision) -> None:
        last = self.throttles.get(new.network) or self._releases.get(new.network)
        if last is not None and last.source == new.source and not supersedes(last.precedence, new.precedence):
            return
        self.history.append(new)
        self.throttles.pop(new.network, None)
        self._releases.pop(new.network, None)
        self._watched.pop(new.network, None)
        if self._watch and new.verdict == THROTTLE and self.is_watched(new.network):
            self._watched[new.network] = new
        if new.precedence.is_throttle:
            self.throttles[new.network] = new
            _drop_oldest(self.throttles)
        else:  # remembered, so that a throttle that a worker replays after a crash doesn't come back
            until = new.until if last is None else max(new.until, last.until)
            self._releases[new.network] = replace(new, until=until)
            _drop_oldest(self._releases)

    def apply_override(self, record: OverrideRecord) -> None:
        """Apply an override or its removal."""
        self.override_history.append(record)
        self.overrides.pop(record.network, None)
        if isinstance(record, Override) and len(self.overrides) < MAX_OVERRIDES:
            self.overrides[record.network] = record

    def active(self, at_ms: int, search: str = "") -> Iterator[LoggedDecision]:
        """Yield the active throttles, the last published first.

        ``search`` selects those whose network contains it, or whose reason or verdict equals it.
        """
        for throttle in reversed(self.throttles.values()):
            if throttle.until > at_ms and (search in throttle.network or search in (throttle.reason, throttle.verdict)):
                yield throttle

    def is_watched(self, network: str) -> bool:
        """Return True if the network shares an address with a watched one."""
        candidate = network_of(network)
        return any(overlap(candidate, watched) for watched in self._watch)

    def watched_throttles(self, at_ms: int) -> dict[str, str]:
        """Return a sentence with the reason for each active throttle on a watched network."""
        self._watched = {network: throttle for network, throttle in self._watched.items() if throttle.until > at_ms}
        return {network: decision_text(throttle.decision()) for network, throttle in self._watched.items()}

    def drop_expired(self, at_ms: int) -> None:
        """Drop the throttles that have expired, and the releases of throttles that would have."""
        for decisions in (self.throttles, self._releases):
            for network in [network for network, decision in decisions.items() if decision.until <= at_ms]:
                del decisions[network]

    def decisions_on(self, networks: set[str]) -> list[Decision]:
        """Return the decisions on these networks that are still in memory, by time of issue."""
        found = {id(logged): logged for logged in self.history if logged.network in networks}
        current = [self.throttles[network] for network in networks if network in self.throttles]
        found |= {id(logged): logged for logged in current}
        return sorted((logged.decision() for logged in found.values()), key=lambda decision: decision.issued)

    def silent_edges(self, limit_ms: int) -> dict[str, float]:
        """Return the edges without a heartbeat for ``limit_ms`` that weren't stopped properly: seconds since the last one."""
        now_ms = time.time() * 1000
        return {
            name: (now_ms - at_ms) / 1000 for name, at_ms in self.heartbeats.items() if 0 < at_ms < now_ms - limit_ms
        }


def _drop_oldest(decisions: dict[str, LoggedDecision]) -> None:
    while len(decisions) > MAX_THROTTLES:
        del decisions[next(iter(decisions))]
