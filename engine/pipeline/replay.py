"""Replay NDJSON events through the engine, without Kafka: lines in, decisions out.

Events go to partitions as Kafka's default partitioner assigns them, each with its own state. So a replay with N partitions
makes the decisions of a worker on a topic with N partitions. Offsets count a partition's events from 0, as on a new topic.
Rate: over a million events per second on one core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from engine.decisions.publish_gate import EventDecision, PublishGate
from engine.state.partition import Partition
from topics.columns.keys import partitions_of_keys
from topics.columns.scan import LAST_TS_MS, READY, EventColumns, empty_columns, scan_lines
from topics.columns.slow import settle
from topics.decisions import RELEASE, SHADOW, THROTTLE, Decision

CHUNK_BYTES = 1 << 20
BLOCK_EVENTS = 1 << 14
MAX_LINE_BYTES = 16 << 20
MAX_EXAMPLES = 5


@dataclass(slots=True)
class ReplayCounts:
    """What a replay has read and decided."""

    lines: int = 0
    events: int = 0
    poison: int = 0  # lines that are no events
    throttles: int = 0  # without those in shadow
    shadow_throttles: int = 0
    releases: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)  # the first poison lines: number and reason


def whole_lines(source: BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the lines of ``source`` in chunks of about ``size`` bytes; a last line without line break gets one.

    A longer line than `MAX_LINE_BYTES` is cut.
    """
    rest = b""
    while chunk := source.read(size):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            yield rest + b"\n"
            rest = b""
    if rest:
        yield rest + b"\n"


class EventReader:
    """Reads text into columns, for one replay or for several that are compared. Skips events after ``last_ms``."""

    def __init__(self, last_ms: int = LAST_TS_MS) -> None:
        self.counts = ReplayCounts()
        self._last_ms = last_ms
        self._columns = empty_columns(BLOCK_EVENTS)

    def blocks(self, source: BinaryIO) -> Iterator[EventColumns]:
        """Yield the events of a file, at most 16,384 at a time, all of them READY, in columns of their own."""
        for text in whole_lines(source):
            yield from self.read(text)

    def read(self, text: bytes) -> Iterator[EventColumns]:
        """Yield the events of whole lines, as `blocks` does."""
        view, start = np.frombuffer(text, np.uint8), 0
        while start < len(text):
            count, used = scan_lines(view[start:], self._columns)
            yield self._block(text[start : start + used], count)
            start += used

    def _block(self, text: bytes, count: int) -> EventColumns:
        columns, counts = self._columns, self.counts
        settled = settle(columns, count, lambda i: text[columns.start[i] : columns.start[i] + columns.length[i]])
        for poison in settled.poison[: MAX_EXAMPLES - len(counts.examples)]:
            line = counts.lines + text.count(b"\n", 0, int(columns.start[poison.event])) + 1
            counts.examples.append((line, poison.reason))
        counts.poison += len(settled.poison)
        counts.lines += text.count(b"\n")
        ready = np.flatnonzero((columns.status[:count] == READY) & (columns.ts_ms[:count] <= self._last_ms))
        counts.events += len(ready)
        events = EventColumns._make(column[ready] for column in columns)
        events.record_ms[:] = events.ts_ms
        return events


class VerdictComposer(Protocol):
    """Composes decisions from a detector's verdicts."""

    @property
    def config(self) -> str:
        """Return "sha256:..." of the options that change decisions."""

    def decision(self, verdict: Any, partition: int) -> Decision:
        """Return the decision for one verdict."""


class Dealer:
    """Assigns a file's events to partitions as Kafka's default partitioner does, with offsets from 0 in each."""

    def __init__(self, partitions: int) -> None:
        self._offsets = np.zeros(partitions, np.int64)

    def deal(self, events: EventColumns) -> Iterator[tuple[int, EventColumns, npt.NDArray[np.intp]]]:
        """Yield each partition's number, its events as copies, and their indexes in ``events``; skips empty partitions."""
        owner = partitions_of_keys(events.key, len(self._offsets))
        for number in np.flatnonzero(np.bincount(owner)).tolist():
            own = np.flatnonzero(owner == number)
            dealt = EventColumns._make(column[own] for column in events)
            dealt.offset[:] = np.arange(self._offsets[number], self._offsets[number] + len(own))
            self._offsets[number] += len(own)
            yield number, dealt, own


class Replay:
    """Partitions that are fed from a file. ``partitions`` are numbered from 0; ``gates`` has one for each, or none."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        composer: VerdictComposer,
        reader: EventReader | None = None,
        gates: Sequence[PublishGate] = (),
    ) -> None:
        self.partitions = partitions
        self.composer = composer
        self.reader = reader or EventReader()
        self._gates = gates
        self._dealer = Dealer(len(partitions))

    @property
    def counts(self) -> ReplayCounts:
        """What was read and decided."""
        return self.reader.counts

    def run(self, source: BinaryIO) -> Iterator[list[Decision]]:
        """Yield the decisions of each block of at most 16,384 events, in the order of the events that led to them."""
        for events in self.reader.blocks(source):
            decisions = self.decide(events)
            verdicts = Counter(decision.verdict for decision in decisions)
            self.counts.throttles += verdicts[THROTTLE]
            self.counts.shadow_throttles += verdicts[SHADOW]
            self.counts.releases += verdicts[RELEASE]
            yield decisions

    def decide(self, events: EventColumns) -> list[Decision]:
        """Return the decisions on a block of the reader, which isn't changed."""
        numbered: list[tuple[int, Decision]] = []
        for number, dealt, own in self._dealer.deal(events):
            numbered += [(int(own[event]), decision) for event, decision in self._decisions(number, dealt)]
        numbered.sort(key=lambda pair: pair[0])
        return [decision for _, decision in numbered]

    def _decisions(self, number: int, dealt: EventColumns) -> list[EventDecision]:
        count = len(dealt.offset)
        if self._gates:
            return self._gates[number].apply(dealt, 0, count)
        verdicts = self.partitions[number].apply(dealt, 0, count)
        return [(int(verdict["event"]), self.composer.decision(verdict, number)) for verdict in verdicts]
