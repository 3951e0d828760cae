"""The site's decisions, overrides and edges as their topics have them, for the page: bounded, decisions as octets.

A worker's page shows all decisions, those of other workers too, and those from before it started. Their topic and that of the
edges are read from the beginning, a hundred records a turn with a pause after each, so that an engine at work hardly notices;
of overrides the worker's own reader tells. A decision is ignored, as everywhere, when its source offset is lower than that of
the one held.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from engine.kafka.follow import RateLimitedWarning, TopicReader, retry
from topics.contracts import DECISIONS, EDGES
from topics.decisions import HOLDING, RELEASE_HEADER, THROTTLE, BadDecision, Decision, decode_decision
from topics.networks import overlap
from topics.overrides import Override, Said
from topics.words import in_words

logger = logging.getLogger(__name__)
PAUSE_S = 0.01
MOST_HELD = 50_000
MOST_PAST = 5_000
MOST_OVERRIDES = 10_000
MOST_EDGES = 1_000


@dataclass(slots=True)
class LoggedDecision:
    """A decision as its octets, and what lists are made by. ``source``: topic and partition; ``offset``: there."""

    network: str
    issued: int
    until: int
    verdict: str
    reason: str
    source: tuple[str, int]
    offset: int
    value: bytes

    def decision(self) -> Decision:
        """All of it."""
        return decode_decision(self.value)


def held(value: bytes) -> LoggedDecision:
    """Read what lists need. `BadDecision` if it is none."""
    made = decode_decision(value)
    source = (made.source.topic, made.source.partition)
    return LoggedDecision(
        made.network, made.issued, made.until, made.verdict, made.reason, source, made.source.offset, value
    )


class DecisionLog:
    """``prefix``: of the topics; ``watch``: networks whose throttles are kept an eye on. ``throttles``: by network, the one
    said last at the end; ``past``: decisions and releases as they came; ``overrides``: by network; ``said``: of overrides, as
    it came; ``beats``: when each edge was heard last, ms, 0 once it said goodbye; ``caught_up``: all has been read."""

    def __init__(self, prefix: str, options: Mapping[str, Any], watch: Sequence[str] = ()) -> None:
        self.throttles: dict[str, LoggedDecision] = {}
        self.past: deque[LoggedDecision] = deque(maxlen=MOST_PAST)
        self.overrides: dict[str, Override] = {}
        self.said: deque[Said] = deque(maxlen=MOST_PAST)
        self.beats: dict[str, int] = {}
        self.caught_up = False
        self._watch = [ip_network(network) for network in watch]
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
                self.take(records)
                self.caught_up = self.caught_up or reader.is_caught_up
                await asyncio.sleep(PAUSE_S)

    def take(self, records: list[ConsumerRecord]) -> None:
        """Take records of one partition in."""
        for record in records:
            try:
                self._take(record)
            except (BadDecision, ValueError, AttributeError):
                logger.warning("%s %d at %d is left out: not readable", record.topic, record.partition, record.offset)

    def _take(self, record: ConsumerRecord) -> None:
        name = (record.key or b"").decode(errors="replace")
        if record.topic == self._decisions:
            value = record.value or dict(record.headers).get(RELEASE_HEADER)
            if value is None:
                self.throttles.pop(name, None)
                self._watched.pop(name, None)
            else:
                self._decide(held(value))
        else:
            beat = orjson.loads(record.value or b"{}")
            if name in self.beats or len(self.beats) < MOST_EDGES:
                self.beats[name] = int(beat["ts"]) if beat.get("alive") else 0

    def _decide(self, new: LoggedDecision) -> None:
        old = self.throttles.get(new.network)
        if old is not None and old.source == new.source and new.offset < old.offset:
            return
        self.past.append(new)
        self.throttles.pop(new.network, None)
        self._watched.pop(new.network, None)
        if self._watch and new.verdict == THROTTLE and self.watches(new.network):
            self._watched[new.network] = new
        if new.verdict in HOLDING:
            self.throttles[new.network] = new
            while len(self.throttles) > MOST_HELD:
                del self.throttles[next(iter(self.throttles))]

    def hear(self, said: Said) -> None:
        """Take in what an operator said next."""
        self.said.append(said)
        self.overrides.pop(said.network, None)
        if isinstance(said, Override) and len(self.overrides) < MOST_OVERRIDES:
            self.overrides[said.network] = said

    def live(self, at_ms: int, wanted: str = "") -> Iterator[LoggedDecision]:
        """The throttles in force, the one said last first; those whose network has ``wanted`` in it, or whose reason or verdict
        it is."""
        for found in reversed(self.throttles.values()):
            if found.until > at_ms and (wanted in found.network or wanted in (found.reason, found.verdict)):
                yield found

    def watches(self, network: str) -> bool:
        """Whether a throttle on it would be one that is watched for."""
        around = ip_network(network)
        return any(overlap(around, one) for one in self._watch)

    def watched(self, at_ms: int) -> dict[str, str]:
        """The throttles in force on watched networks: why, in words, by network."""
        self._watched = {network: found for network, found in self._watched.items() if found.until > at_ms}
        return {network: in_words(found.decision()) for network, found in self._watched.items()}

    def forget(self, at_ms: int) -> None:
        """Drop the throttles that have lapsed."""
        for network in [network for network, found in self.throttles.items() if found.until <= at_ms]:
            del self.throttles[network]

    def about(self, networks: set[str]) -> list[Decision]:
        """What was decided of these networks, as far as it is still known, in the order of issue."""
        found = {id(one): one for one in self.past if one.network in networks}
        found |= {id(one): one for network in networks if (one := self.throttles.get(network)) is not None}
        return sorted((one.decision() for one in found.values()), key=lambda decision: decision.issued)

    def silent(self, limit_ms: int) -> dict[str, float]:
        """Seconds since each edge that didn't say goodbye was heard, of those unheard for longer than ``limit_ms``."""
        now_ms = time.time() * 1000
        return {name: (now_ms - at_ms) / 1000 for name, at_ms in self.beats.items() if 0 < at_ms < now_ms - limit_ms}
