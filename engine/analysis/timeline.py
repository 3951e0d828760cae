"""Replay a sender's partition and sample the sender after each of its events: counts, expectation, limits, decisions.

The whole partition is replayed, as a newcomer's limit depends on other senders. It is stopped after each event of the sender;
the place where a block is cut changes nothing (tests/laws/test_split.py). Memory: one sample per event of the sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.analysis.collateral import Collateral, ThrottlePeriod
from engine.analysis.explanation import newcomers_peak
from engine.config.load import Settings
from engine.detector.constants import SCALE_MS, SCALE_NAMES
from engine.detector.hash_table import NO_ROW
from engine.pipeline import build
from engine.state.inspect import STANDING, row_of, standing
from topics.columns.keys import partitions_of_keys
from topics.columns.scan import DEFERRED, EventColumns
from topics.decisions import THROTTLING, Decision
from topics.keys import key_text
from topics.networks import network_text
from topics.partitioner import partition_of


@dataclass(frozen=True, slots=True)
class SenderSamples:
    """One entry per event of the sender."""

    ts_ms: npt.NDArray[np.int64]  # event time
    messages: npt.NDArray[np.int64]  # 0 for a retry
    outcome: npt.NDArray[np.uint8]
    standing: npt.NDArray[Any]  # STANDING after the event


@dataclass(slots=True)
class SenderTimeline:
    """The samples and decisions of a sender."""

    network: str
    samples: SenderSamples
    decisions: list[Decision]  # on the sender, in order
    throttle_periods: list[ThrottlePeriod]  # shadow decisions included
    newcomers: npt.NDArray[np.float64]  # 90th percentile of newcomers' peaks at the end, by scale

    def most_exceeded_scale(self) -> int:
        """Return the scale named by most of its decisions; without any, the one that came nearest to its limit."""
        names = [name for decision in self.decisions for name in decision.evidence.get("scales", ())]
        if names:
            return max(range(len(SCALE_NAMES)), key=lambda s: (names.count(SCALE_NAMES[s]), SCALE_MS[s]))
        sampled = self.samples.standing
        return int(np.argmax((sampled["counter"] / sampled["limit"]).max(axis=0)))


class TimelineReplay:
    """Replay blocks of events in order and sample one sender."""

    def __init__(self, settings: Settings, key: int) -> None:
        self.key = key
        self._network = network_text(key)
        self.number = partition_of(key_text(key).encode(), settings.topics.partitions)
        self._partitions = settings.topics.partitions
        self._partition = build.partition(settings, self.number)
        self._composer = build.composer(settings)
        self._samples: list[tuple[int, int, int, npt.NDArray[Any]]] = []
        self._decisions: list[Decision] = []
        self._offset = 0

    def apply_site(self, events: EventColumns) -> None:
        """Apply a block of the whole site's events; those of other partitions are skipped."""
        own = np.flatnonzero(partitions_of_keys(events.key, self._partitions) == self.number)
        dealt = EventColumns._make(column[own] for column in events)
        dealt.offset[:] = np.arange(self._offset, self._offset + len(own))
        self._offset += len(own)
        self.apply_partition(dealt)

    def apply_partition(self, events: EventColumns) -> None:
        """Apply a block of the sender's partition, with the offsets of the topic."""
        first = 0
        for i in np.flatnonzero(events.key == np.uint64(self.key)).tolist():
            self._apply(events, first, i + 1)
            self._sample(int(events.ts_ms[i]), int(events.messages[i]), int(events.outcome[i]))
            first = i + 1
        self._apply(events, first, len(events.key))

    def _apply(self, events: EventColumns, first: int, last: int) -> None:
        for verdict in self._partition.apply(events, first, last):
            if int(verdict["key"]) == self.key:
                decision = self._composer.decision(verdict, self.number)
                if decision.network == self._network:  # a pool's decision has the key of a member
                    self._decisions.append(decision)

    def _sample(self, ts_ms: int, messages: int, outcome: int) -> None:
        number = row_of(self._partition, self.key)
        if number != NO_ROW:
            self._samples.append((ts_ms, messages, outcome, standing(self._partition, number, ts_ms)))

    def timeline(self) -> SenderTimeline:
        """Return the samples and decisions so far."""
        collateral = Collateral(THROTTLING)
        collateral.add_decisions([decision for decision in self._decisions if decision.is_throttle])
        samples = SenderSamples(
            np.array([sample[0] for sample in self._samples], np.int64),
            np.array([sample[1] * (sample[2] != DEFERRED) for sample in self._samples], np.int64),
            np.array([sample[2] for sample in self._samples], np.uint8),
            np.concatenate([sample[3] for sample in self._samples] or [np.zeros(0, STANDING)]),
        )
        periods = collateral.throttle_periods.get(self._network, [])
        return SenderTimeline(self._network, samples, self._decisions, periods, newcomers_peak(self._partition))
