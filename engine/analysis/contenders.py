"""Several configurations over the same events, in one pass: each with its own engine and its own edge.

The text is read once and the classes of senders are found once; a contender adds what its decisions cost. Memory: a
contender's rows (128 bytes a sender) and its ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from engine import assembly
from engine.analysis.edge import Edge
from engine.analysis.ledger import Ledger
from engine.analysis.senders import Seen, Senders
from engine.options import Settings
from engine.replay import EventReader, Tally
from topics.columns.scan import EventColumns


class Takes(Protocol):
    """What goes through the events beside others."""

    def take(self, events: EventColumns, seen: Seen) -> None:
        """Take a block, and what is known of its senders."""


class Contender:
    """One configuration: engine, edge, books."""

    def __init__(self, settings: Settings, delay_ms: int) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self._engine = assembly.replay(settings)
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
