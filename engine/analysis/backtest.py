"""Several configurations over the same events, in one pass: each with its own engine and its own edge.

The text is read once and the classes of senders are found once; a contender adds what its decisions cost. Memory: a
contender's rows (128 bytes a sender) and its ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from engine.analysis.collateral import Ledger
from engine.analysis.senders import Seen, Senders
from engine.analysis.simulated_edge import Edge
from engine.config.options import Settings
from engine.pipeline import build
from engine.pipeline.replay import EventReader, Tally
from topics.columns.scan import EventColumns
from topics.decisions import HOLDING, OVERRIDE, RELEASE, THROTTLE, Decision


class Takes(Protocol):
    """What goes through the events beside others."""

    def take(self, events: EventColumns, seen: Seen) -> None:
        """Take a block, and what is known of its senders."""


class Contender:
    """One configuration: engine, edge, books."""

    def __init__(self, settings: Settings, delay_ms: int) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self._engine = build.replay(settings)
        self._edge = Edge(delay_ms)

    def take(self, events: EventColumns, seen: Seen) -> None:
        """Decide on a block, then offer it to the edge: a decision holds from the event on that led to it."""
        decisions = self._engine.decide(events)
        self.ledger.note(decisions)
        self._edge.learn(decisions)
        self.ledger.enter(events, self._edge.offer(events), seen)


def contest(contenders: Iterable[Takes], sources: Iterable[BinaryIO]) -> Tally:
    """Run every contender over all files, in order; what was read."""
    reader, senders, all_of_them = EventReader(), Senders(), list(contenders)
    for source in sources:
        for events in reader.blocks(source):
            seen = senders.of(events)
            for contender in all_of_them:
                contender.take(events, seen)
    return reader.tally


LIVE, WITH_SHADOW = (THROTTLE,), HOLDING


class Recorded:
    """One reading of the record. ``verdicts``: of decisions that hold; ``delay_ms``: from a decision until the edge has it."""

    def __init__(self, decisions: Sequence[Decision], verdicts: tuple[str, ...], delay_ms: int) -> None:
        self.ledger = Ledger(verdicts)
        self.ledger.note(list(decisions))
        self._decisions, self._verdicts, self._delay_ms = decisions, verdicts, delay_ms
        self._edge = self._fresh(decisions)

    def take(self, events: EventColumns, seen: Seen) -> None:
        """Offer a block to the edge, and enter what it deferred."""
        self.ledger.enter(events, self._edge.offer(events), seen)

    def turn_to(self, partition: int, topic: str) -> None:
        """Go on with the events of one partition of ``topic`` from their beginning: by what was decided there, and by hand."""
        self._edge = self._fresh(
            [made for made in self._decisions if made.source.topic != topic or made.source.partition == partition]
        )

    def _fresh(self, decisions: Iterable[Decision]) -> Edge:
        edge = Edge(self._delay_ms, self._verdicts)
        edge.learn(decisions)
        return edge


def newer(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Without what readers ignore, and without repetitions; of one network's in the order of their publication."""
    held: dict[tuple[str, str, int], tuple[tuple[int, bool], str]] = {}
    for made in decisions:
        whose = made.network, made.source.topic, made.source.partition
        released = made.verdict == RELEASE
        place = made.source.offset + (released and made.reason == OVERRIDE), not released
        last, verdict = held.get(whose, ((-1, False), ""))
        if place > last or (place == last and made.verdict != verdict):
            held[whose] = place, made.verdict
            yield made
