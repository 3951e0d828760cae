"""What decisions did that were published, and what those in shadow would have done: the same books as a replay's, without one.

A simulated edge goes through the recorded events by the recorded decisions, in the order in which they were published. What
readers would ignore, as it isn't newer than what they hold, is left out here too. A network whose decisions are lost to the
record (the topic keeps the last one of each) wasn't held by them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from engine.analysis.edge import Edge
from engine.analysis.ledger import Ledger
from engine.analysis.senders import Seen
from topics.columns.scan import EventColumns
from topics.decisions import HOLDING, OVERRIDE, RELEASE, THROTTLE, Decision

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
