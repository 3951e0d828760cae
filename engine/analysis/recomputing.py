"""A partition's events gone through again: what they lead to where decisions were made, and a sender's own ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.decisions.compose import Composer
from engine.detector.constants import REJECTED_WEIGHT, SCALE_MS, SCALE_NAMES
from engine.state.partition import Partition
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED, EventColumns
from topics.decisions import Decision


class OwnEvents(NamedTuple):
    """A sender's events, one array a field. ``at_ms``: event time, as the engine takes it."""

    offset: npt.NDArray[np.int64]
    at_ms: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.uint8]

    def between(self, first: int, last: int) -> OwnEvents:
        """Those with offsets from ``first`` to ``last``."""
        return self.where((self.offset >= first) & (self.offset <= last))

    def where(self, chosen: npt.NDArray[np.bool_]) -> OwnEvents:
        """Some of them."""
        return OwnEvents._make(column[chosen] for column in self)

    def moments(self, at_ms: int) -> list[int]:
        """How many there are up to each event of a moment, or up to it if there is none; a late one is of the time reached."""
        reached_ms = np.maximum.accumulate(self.at_ms)
        first, last = (int(np.searchsorted(reached_ms, at_ms, side=side)) for side in ("left", "right"))
        return [*range(first + 1, last + 1)] or [last]

    def counters(self, count: int, at_ms: int) -> dict[str, float]:
        """What the first ``count`` add up to at a moment, by scale, in closed form: c = sum of m exp(-(t - r) / tau), where r
        is the greatest time until then, as what comes late adds without fading."""
        first = self.where(np.arange(len(self.offset)) < count)
        accepted = np.cumsum(np.where(first.outcome == ACCEPTED, first.messages, 0))
        weight = np.where((first.outcome == REJECTED) & (accepted == 0), REJECTED_WEIGHT, first.outcome != DEFERRED)
        demand, ago_ms = first.messages * weight, at_ms - np.maximum.accumulate(first.at_ms)
        return {
            name: round(float((demand * np.exp(-ago_ms / tau_ms)).sum()), 3)
            for name, tau_ms in zip(SCALE_NAMES, SCALE_MS, strict=True)
        }


def own_events(parts: Sequence[OwnEvents]) -> OwnEvents:
    """Parts put together."""
    kinds = (np.int64, np.int64, np.int32, np.uint8)
    none = OwnEvents._make(np.zeros(0, kind) for kind in kinds)
    return OwnEvents._make(np.concatenate(columns) for columns in zip(none, *parts, strict=True))


class Recomputation:
    """``partition``: one that has seen nothing; ``given``: decisions of it; ``key``: whose events are kept, None for nobody's.

    ``made``: what the events lead to at the offsets and moments of the given ones."""

    def __init__(self, partition: Partition, composer: Composer, given: Sequence[Decision], key: int | None) -> None:
        self.partition = partition
        self.made: list[Decision] = []
        self._composer, self._key, self._own = composer, key, list[OwnEvents]()
        self._offsets = {decision.source.offset for decision in given}
        self._moments = {decision.issued for decision in given}

    @property
    def done(self) -> bool:
        """Whether all offsets of the given ones are behind it."""
        return self.partition.applied_offset >= max(self._offsets, default=-1)

    @property
    def own(self) -> OwnEvents:
        """The events of ``key`` so far."""
        return own_events(self._own)

    def apply(self, columns: EventColumns) -> None:
        """Go through a block's events, all of them READY."""
        if not len(columns.offset):
            return
        self._keep(columns)
        for verdict in self.partition.apply(columns, 0, len(columns.offset)):
            if int(verdict["offset"]) in self._offsets or int(verdict["issued_ms"]) in self._moments:
                self.made.append(self._composer.decision(verdict, self.partition.number))

    def _keep(self, columns: EventColumns) -> None:
        if self._key is None:
            return
        own = np.flatnonzero(columns.key == np.uint64(self._key))
        stamps, records = columns.ts_ms[own], columns.record_ms[own]
        far = (records >= 0) & (np.abs(stamps - records) > self.partition.policy.window_ms)
        self._own.append(
            OwnEvents(columns.offset[own], np.where(far, records, stamps), columns.messages[own], columns.outcome[own])
        )
