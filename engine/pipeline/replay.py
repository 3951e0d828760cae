"""The same engine over a file: NDJSON events in, decisions out, no Kafka.

Events are dealt to partitions as Kafka's partitioner would, each with its own state, so a replay with N partitions gives
the decisions of a worker on a topic with N partitions. Offsets count a partition's events from 0, as on a fresh topic.
Rate: above a million events a second on one core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from engine.decisions.publish_gate import Gate
from engine.state.partition import Partition
from topics.columns.keys import partitions_of_keys
from topics.columns.scan import LAST_TS_MS, READY, EventColumns, empty_columns, scan_lines
from topics.columns.slow import settle
from topics.decisions import RELEASE, SHADOW, THROTTLE, Decision

CHUNK = 1 << 20
BLOCK_EVENTS = 1 << 14
LONGEST_LINE = 16 << 20
EXAMPLES = 5


@dataclass(slots=True)
class Tally:
    """What a replay has seen. ``shadows``: throttles in shadow, which are not among ``throttles``; ``poison``: lines that are
    no events, with the first few as (line, reason)."""

    lines: int = 0
    events: int = 0
    poison: int = 0
    throttles: int = 0
    shadows: int = 0
    releases: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


def whole_lines(source: BinaryIO, size: int = CHUNK) -> Iterator[bytes]:
    """Whole lines of ``source`` in chunks of about ``size`` octets; a last line without its line break gets one."""
    left = b""
    while chunk := source.read(size):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield left + chunk[:cut]
            left = chunk[cut:]
        else:
            left += chunk
        if len(left) > LONGEST_LINE:
            yield left + b"\n"
            left = b""
    if left:
        yield left + b"\n"


class EventReader:
    """Text to columns, for one engine or for several that are compared. ``last_ms``: later events are left out."""

    def __init__(self, last_ms: int = LAST_TS_MS) -> None:
        self.tally = Tally()
        self._last_ms = last_ms
        self._columns = empty_columns(BLOCK_EVENTS)

    def blocks(self, source: BinaryIO) -> Iterator[EventColumns]:
        """The events of a file, at most 16,384 at a time, all of them READY; the columns are the caller's to keep."""
        for text in whole_lines(source):
            yield from self.read(text)

    def read(self, text: bytes) -> Iterator[EventColumns]:
        """The events of whole lines."""
        octets, at = np.frombuffer(text, np.uint8), 0
        while at < len(text):
            count, used = scan_lines(octets[at:], self._columns)
            yield self._block(text[at : at + used], count)
            at += used

    def _block(self, text: bytes, count: int) -> EventColumns:
        columns, tally = self._columns, self.tally
        settled = settle(columns, count, lambda i: text[columns.start[i] : columns.start[i] + columns.length[i]])
        for poison in settled.poison[: EXAMPLES - len(tally.examples)]:
            line = tally.lines + text.count(b"\n", 0, int(columns.start[poison.event])) + 1
            tally.examples.append((line, poison.reason))
        tally.poison += len(settled.poison)
        tally.lines += text.count(b"\n")
        ready = np.flatnonzero((columns.status[:count] == READY) & (columns.ts_ms[:count] <= self._last_ms))
        tally.events += len(ready)
        events = EventColumns._make(column[ready] for column in columns)
        events.record_ms[:] = events.ts_ms
        return events


class Composes(Protocol):
    """What makes decisions of the partitions' verdicts; ``config`` names the configuration."""

    @property
    def config(self) -> str:
        """ "sha256:..." of the options that change decisions."""

    def decision(self, verdict: Any, partition: int) -> Decision:
        """The decision for one verdict."""


class Dealer:
    """Deals a file's events to ``partitions`` as Kafka's partitioner would; each one's offsets are counted from 0."""

    def __init__(self, partitions: int) -> None:
        self._offsets = np.zeros(partitions, np.int64)

    def deal(self, events: EventColumns) -> Iterator[tuple[int, EventColumns, npt.NDArray[np.intp]]]:
        """The number of each partition that gets some, those, and which of ``events`` they are; ``events`` stay as they are."""
        owner = partitions_of_keys(events.key, len(self._offsets))
        for number in np.flatnonzero(np.bincount(owner)).tolist():
            own = np.flatnonzero(owner == number)
            dealt = EventColumns._make(column[own] for column in events)
            dealt.offset[:] = np.arange(self._offsets[number], self._offsets[number] + len(own))
            self._offsets[number] += len(own)
            yield number, dealt, own


class Replay:
    """Partitions fed from a file. ``partitions`` are numbered from 0; ``gates``: one for each, if there are overrides."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        composer: Composes,
        reader: EventReader | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        self.partitions, self.gates = partitions, gates
        self.composer = composer
        self.reader = reader or EventReader()
        self._dealer = Dealer(len(partitions))

    @property
    def tally(self) -> Tally:
        """What was read and decided."""
        return self.reader.tally

    def run(self, source: BinaryIO) -> Iterator[list[Decision]]:
        """Decisions in the order of the events that led to them, a list (maybe empty) a block of at most 16,384 events."""
        for events in self.reader.blocks(source):
            decisions = self.decide(events)
            said = Counter(decision.verdict for decision in decisions)
            self.tally.throttles += said[THROTTLE]
            self.tally.shadows += said[SHADOW]
            self.tally.releases += said[RELEASE]
            yield decisions

    def decide(self, events: EventColumns) -> list[Decision]:
        """The decisions on a block of the reader's; ``events`` stay as they are."""
        found: list[tuple[int, Decision]] = []
        for number, dealt, own in self._dealer.deal(events):
            found += self._verdicts(self.partitions[number], dealt, own)
        found.sort(key=lambda pair: pair[0])
        return [decision for _, decision in found]

    def _verdicts(
        self, partition: Partition, dealt: EventColumns, own: npt.NDArray[np.intp]
    ) -> Iterator[tuple[int, Decision]]:
        if self.gates:
            for event, decision in self.gates[partition.number].apply(dealt, 0, len(own)):
                yield int(own[event]), decision
            return
        for verdict in partition.apply(dealt, 0, len(own)):
            yield int(own[verdict["event"]]), self.composer.decision(verdict, partition.number)
