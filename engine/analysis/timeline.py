"""A sender through time: after each of its events, what was counted, expected and allowed, and the decisions on it.

The whole partition is replayed (a newcomer's limit depends on its neighbours), and looked at after each event of the one
sender: by the first law, where a block is cut changes nothing. Memory: one sample an event of the sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.analysis.collateral import Ledger, Spell
from engine.analysis.explanation import newcomers_peak
from engine.config.load import Settings
from engine.detector.constants import SCALE_MS, SCALE_NAMES
from engine.detector.hash_table import NO_ROW
from engine.pipeline import build
from engine.state.inspect import STANDING, row_of, standing
from topics.columns.keys import partitions_of_keys
from topics.columns.scan import DEFERRED, EventColumns
from topics.decisions import HOLDING, Decision
from topics.keys import key_text, network_text
from topics.partitioner import partition_of


@dataclass(frozen=True, slots=True)
class Samples:
    """One entry an event of the sender: event time, messages, outcome, and STANDING after it."""

    ts_ms: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    standing: npt.NDArray[Any]


@dataclass(slots=True)
class Timeline:
    """``decisions``: on the sender, in order; ``spells``: those in shadow too; ``newcomers``: what nine of ten newcomers stay
    below at the end, by scale."""

    network: str
    samples: Samples
    decisions: list[Decision]
    spells: list[Spell]
    newcomers: npt.NDArray[np.float64]

    def telling_scale(self) -> int:
        """The scale that spoke most often in its decisions; without any, the one that came nearest to its limit."""
        spoken = [name for decision in self.decisions for name in decision.evidence.get("scales", ())]
        if spoken:
            return max(range(len(SCALE_NAMES)), key=lambda s: (spoken.count(SCALE_NAMES[s]), SCALE_MS[s]))
        found = self.samples.standing
        return int(np.argmax((found["counter"] / found["limit"]).max(axis=0)))


class Follower:
    """Replays the partition of one sender and takes the samples. Give it blocks in order, then ask for the `timeline`."""

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

    def take(self, events: EventColumns) -> None:
        """A block of the whole site's events."""
        own = np.flatnonzero(partitions_of_keys(events.key, self._partitions) == self.number)
        dealt = EventColumns._make(column[own] for column in events)
        dealt.offset[:] = np.arange(self._offset, self._offset + len(own))
        self._offset += len(own)
        self.follow(dealt)

    def follow(self, events: EventColumns) -> None:
        """A block of the sender's partition alone, with its offsets."""
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
                if decision.network == self._network:  # and not one around it
                    self._decisions.append(decision)

    def _sample(self, ts_ms: int, messages: int, outcome: int) -> None:
        number = row_of(self._partition, self.key)
        if number != NO_ROW:
            self._samples.append((ts_ms, messages, outcome, standing(self._partition, number, ts_ms)))

    def timeline(self) -> Timeline:
        """All samples so far."""
        network, ledger = self._network, Ledger(HOLDING)
        ledger.note([decision for decision in self._decisions if decision.holds])
        samples = Samples(
            np.array([sample[0] for sample in self._samples], np.int64),
            np.array([sample[1] * (sample[2] != DEFERRED) for sample in self._samples], np.int64),
            np.array([sample[2] for sample in self._samples], np.uint8),
            np.concatenate([sample[3] for sample in self._samples] or [np.zeros(0, STANDING)]),
        )
        spells = ledger.spells.get(network, [])
        return Timeline(network, samples, self._decisions, spells, newcomers_peak(self._partition))
