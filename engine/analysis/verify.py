"""Recompute decisions from their events and compare the JSON byte for byte.

A decision has three inputs: the configuration and the model, which it names, and the events of its partition up to its source
offset. Where a decision differs, the changed events lie after the last equal decision on the same network. An event that was
added to a partition or removed from it shifts the source offsets of all later decisions; that event lies between the last
unshifted decision and the first shifted one, on whatever network.

Overrides aren't inputs of the model, so decisions with reason `override` aren't verified: `tidegate audit` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from engine.decisions.compose import MODEL, Composer
from engine.state.partition import Partition
from topics.columns.scan import EventColumns
from topics.decisions import OVERRIDE, Decision, encode_decision

CONFIGURATION, MODEL_VERSION, EVENTS = "configuration", "model", "events"

Identity = tuple[str, bool, int, int]  # network, throttles or not, partition, offset or time of issue


@dataclass(frozen=True, slots=True)
class VerifiedDecision:
    """A published decision next to its recomputation."""

    decision: Decision
    recomputed: Decision | None  # at the same offset, or issued at the same time; None if there is neither
    after_offset: int  # of the last equal decision on the same network before it, -1 without one

    @property
    def is_equal(self) -> bool:
        """True if both are the same bytes."""
        return self.recomputed is not None and encode_decision(self.recomputed) == encode_decision(self.decision)

    @property
    def shift(self) -> int:
        """Return the source offset of the recomputed decision less that of the published one."""
        return 0 if self.recomputed is None else self.recomputed.source.offset - self.decision.source.offset

    @property
    def is_only_shifted(self) -> bool:
        """True if nothing but the source offset differs."""
        if not self.shift or self.recomputed is None:
            return False
        unshifted = replace(self.recomputed, source=self.decision.source)
        return encode_decision(unshifted) == encode_decision(self.decision)

    @property
    def is_different(self) -> bool:
        """True if more than the source offset differs."""
        return not (self.is_equal or self.is_only_shifted)


class OffsetShift(NamedTuple):
    """Events added or removed after offset `after` of a partition and up to offset `until`; later offsets are shifted."""

    partition: int
    after: int
    until: int
    events: int  # negative if events were removed


class Verification(NamedTuple):
    """The result of `tidegate explain --verify`."""

    decisions: list[VerifiedDecision]
    shifts: list[OffsetShift]
    deleted_before: int  # first offset that the topic still has, 0 for files
    config: str  # hash of the configuration that recomputed


class Recomputation:
    """Apply a partition's events again and keep the decisions that may equal a published one."""

    def __init__(self, partition: Partition, composer: Composer, published: Sequence[Decision]) -> None:
        self.partition = partition  # empty at first
        self.decisions: list[Decision] = []
        self._composer = composer
        self._offsets = {decision.source.offset for decision in published}
        self._issued = {decision.issued for decision in published}

    @property
    def is_complete(self) -> bool:
        """True once the offsets of all published decisions are applied."""
        return self.partition.applied_offset >= max(self._offsets, default=-1)

    def apply(self, columns: EventColumns) -> None:
        """Apply a block of events, all of them READY."""
        for verdict in self.partition.apply(columns, 0, len(columns.offset)):
            if int(verdict["offset"]) in self._offsets or int(verdict["issued_ms"]) in self._issued:
                self.decisions.append(self._composer.decision(verdict, self.partition.number))


def verify(published: Sequence[Decision], recomputed: Iterable[Decision]) -> list[VerifiedDecision]:
    """Return each published decision of the model with its recomputation, ordered by partition and offset."""
    candidates = list(recomputed)
    by_offset = {_by_offset(decision): decision for decision in candidates}
    by_time = {_by_time(decision): decision for decision in candidates}
    unique = {_by_offset(decision): decision for decision in published if decision.reason != OVERRIDE}
    results: list[VerifiedDecision] = []
    last_equal: dict[tuple[str, int], int] = {}
    for decision in sorted(unique.values(), key=lambda made: (made.source.partition, made.source.offset, made.verdict)):
        twin = by_offset.get(_by_offset(decision))
        if twin is None or twin.issued != decision.issued:
            twin = by_time.get(_by_time(decision), twin)
        stream = decision.network, decision.source.partition
        result = VerifiedDecision(decision, twin, last_equal.get(stream, -1))
        results.append(result)
        if result.is_equal:
            last_equal[stream] = decision.source.offset
    return results


def _by_offset(decision: Decision) -> Identity:
    return decision.network, decision.is_throttle, decision.source.partition, decision.source.offset


def _by_time(decision: Decision) -> Identity:
    return decision.network, decision.is_throttle, decision.source.partition, decision.issued


def offset_shifts(results: Sequence[VerifiedDecision]) -> list[OffsetShift]:
    """Return where events were added or removed. `results` are in the order of `verify`."""
    shifts: list[OffsetShift] = []
    partition, last_offset, last_shift = -1, -1, 0
    for result in results:
        source = result.decision.source
        if source.partition != partition:
            partition, last_offset, last_shift = source.partition, -1, 0
        if result.is_different:
            continue
        if result.shift != last_shift:
            shifts.append(OffsetShift(partition, last_offset, source.offset, result.shift - last_shift))
        last_offset, last_shift = source.offset, result.shift
    return shifts


def changed_inputs(result: VerifiedDecision, verification: Verification) -> list[str]:
    """Return which inputs of a different decision changed: those that it names, else the events.

    Deleted events are always named. History from `tidegate warm` shows as changed events: its logs aren't on the topic.
    """
    named = [CONFIGURATION] if result.decision.config != verification.config else []
    named += [MODEL_VERSION] if result.decision.model != MODEL else []
    return [*named, EVENTS] if verification.deleted_before or not named else named


def changed_offsets(result: VerifiedDecision) -> tuple[int, int]:
    """Return the first and last offset between which the changed events of a different decision lie."""
    return result.after_offset + 1, result.decision.source.offset


def differences(result: VerifiedDecision) -> list[str]:
    """Return the fields that differ as `name: published 1, recomputed 2`."""
    if result.recomputed is None:
        return ["no decision is recomputed there"]
    published, recomputed = (orjson.loads(encode_decision(made)) for made in (result.decision, result.recomputed))
    return list(_differences("", published, recomputed))


def _differences(name: str, published: Any, recomputed: Any) -> Iterator[str]:
    if isinstance(published, dict) and isinstance(recomputed, dict):
        for key in {**published, **recomputed}:
            yield from _differences(f"{name}.{key}" if name else key, published.get(key), recomputed.get(key))
    elif published != recomputed:
        yield f"{name}: published {published}, recomputed {recomputed}"
