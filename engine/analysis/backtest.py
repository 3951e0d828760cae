"""Run candidates over the same recorded events in one pass: configurations, or decisions that were published.

Each candidate has its own simulated edge and its own account of collateral. The text is read once and senders are classified
once; a candidate adds the cost of its decisions. Memory per candidate: its engine's rows (128 bytes a sender) and its account.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from engine.analysis.collateral import Collateral
from engine.analysis.senders import BlockSenders, SenderClasses
from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.options import Settings
from engine.pipeline import build
from engine.pipeline.replay import EventReader, ReplayCounts
from topics.columns.scan import EventColumns
from topics.decisions import THROTTLE, THROTTLING, Decision, supersedes

LIVE, WITH_SHADOW = (THROTTLE,), THROTTLING  # verdicts that throttle


class Candidate(Protocol):
    """A source of decisions that is run over the events."""

    def apply(self, events: EventColumns, senders: BlockSenders) -> None:
        """Account for a block of events."""


class ConfigurationCandidate:
    """Decisions of an engine under one configuration."""

    def __init__(self, settings: Settings, delay_ms: int) -> None:
        self.settings = settings
        self.collateral = Collateral()
        self._engine = build.replay(settings)
        self._edge = SimulatedEdge(delay_ms)

    def apply(self, events: EventColumns, senders: BlockSenders) -> None:
        """Decide on a block, then pass it to the edge. A decision applies from the event that led to it."""
        decisions = self._engine.decide(events)
        self.collateral.add_decisions(decisions)
        self._edge.add(decisions)
        self.collateral.add_events(events, self._edge.deferred(events), senders)


class PublishedCandidate:
    """Decisions that were published, by a choice of verdicts that throttle: `LIVE` or `WITH_SHADOW`."""

    def __init__(self, decisions: Sequence[Decision], verdicts: tuple[str, ...], delay_ms: int) -> None:
        self.collateral = Collateral(verdicts)
        self.collateral.add_decisions(list(decisions))
        self._decisions, self._verdicts, self._delay_ms = decisions, verdicts, delay_ms
        self._edge = self._edge_with(decisions)

    def apply(self, events: EventColumns, senders: BlockSenders) -> None:
        """Pass a block to the edge."""
        self.collateral.add_events(events, self._edge.deferred(events), senders)

    def begin_partition(self, partition: int, topic: str) -> None:
        """Expect the events of one partition of `topic` from their beginning next.

        Of the decisions, those with a source in another partition of that topic are left out; overrides stay.
        """
        self._edge = self._edge_with(
            [made for made in self._decisions if made.source.topic != topic or made.source.partition == partition]
        )

    def _edge_with(self, decisions: Iterable[Decision]) -> SimulatedEdge:
        edge = SimulatedEdge(self._delay_ms, self._verdicts)
        edge.add(decisions)
        return edge


def backtest(candidates: Iterable[Candidate], sources: Iterable[BinaryIO]) -> ReplayCounts:
    """Run every candidate over all files, in order, and return counts of the lines read."""
    reader, classes, running = EventReader(), SenderClasses(), list(candidates)
    for source in sources:
        for events in reader.blocks(source):
            senders = classes.classify(events)
            for candidate in running:
                candidate.apply(events, senders)
    return reader.counts


def newer(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Yield decisions in order of publication without repetitions and those that readers ignore as older."""
    latest: dict[tuple[str, str, int], Decision] = {}
    for made in decisions:
        stream = made.network, made.source.topic, made.source.partition
        last = latest.get(stream)
        is_repeated = last is not None and (made.precedence, made.verdict) == (last.precedence, last.verdict)
        if last is None or (supersedes(last.precedence, made.precedence) and not is_repeated):
            latest[stream] = made
            yield made
