"""Whether decisions are what their inputs lead to: the events are gone through again and the JSON is compared, octet by octet.

A decision's inputs are the events of its partition up to its source offset, those of its own sender before all. So one that is
equal vouches for them as far as they show, and where one isn't, what changed lies behind the last equal one on the same
network. An event that came to a partition or went from it moves the source offsets of all that follows: there the last one
in its place and the first one that moved, on whatever network, have it between them. What an operator ordered isn't computed
and not verified here: the audit has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from topics.decisions import OVERRIDE, Decision, encode_decision

Place = tuple[str, bool, int, int]


@dataclass(frozen=True, slots=True)
class Verified:
    """``recomputed``: what the events lead to at the decision's place, or the same decision from another offset, None if
    nothing; ``since``: the offset of the last equal one on its network, -1 if there is none."""

    decision: Decision
    recomputed: Decision | None
    since: int

    @property
    def equal(self) -> bool:
        """Byte for byte."""
        return self.recomputed is not None and encode_decision(self.recomputed) == encode_decision(self.decision)

    @property
    def moved(self) -> int:
        """By how much the source offset of what is made now is higher."""
        return 0 if self.recomputed is None else self.recomputed.source.offset - self.decision.source.offset

    @property
    def only_moved(self) -> bool:
        """Equal but for the source offset."""
        if not self.moved or self.recomputed is None:
            return False
        back = replace(self.recomputed, source=self.decision.source)
        return encode_decision(back) == encode_decision(self.decision)


def place(decision: Decision) -> Place:
    """What tells one decision from another, in shadow or not."""
    return decision.network, decision.holds, decision.source.partition, decision.source.offset


def _moment(decision: Decision) -> Place:
    return decision.network, decision.holds, decision.source.partition, decision.issued


def verify(given: Sequence[Decision], recomputed: Iterable[Decision]) -> list[Verified]:
    """Each given decision that the model made, by partition and offset, with what the events lead to at its place."""
    again = list(recomputed)
    placed = {place(decision): decision for decision in again}
    timed = {_moment(decision): decision for decision in again}
    ours = {place(decision): decision for decision in given if decision.reason != OVERRIDE}
    found: list[Verified] = []
    vouched: dict[tuple[str, int], int] = {}
    for decision in sorted(ours.values(), key=lambda one: (one.source.partition, one.source.offset, one.verdict)):
        by, where = (decision.network, decision.source.partition), place(decision)
        now = placed.get(where)
        if now is None or now.issued != decision.issued:
            now = timed.get(_moment(decision), now)
        one = Verified(decision, now, vouched.get(by, -1))
        found.append(one)
        if one.equal:
            vouched[by] = decision.source.offset
    return found


@dataclass(frozen=True, slots=True)
class Turn:
    """Behind offset ``since`` of ``partition`` and not behind ``until``, so many ``events`` more are there now than then,
    fewer if negative: from there on all source offsets are others."""

    partition: int
    since: int
    until: int
    events: int


def turns(found: Sequence[Verified]) -> list[Turn]:
    """Where events came or went, by decisions in the order that `verify` gives."""
    made: list[Turn] = []
    number, last, moved = -1, -1, 0
    for one in found:
        source = one.decision.source
        if source.partition != number:
            number, last, moved = source.partition, -1, 0
        if not (one.equal or one.only_moved):
            continue
        if one.moved != moved:
            made.append(Turn(number, last, source.offset, one.moved - moved))
        last, moved = source.offset, one.moved
    return made


def differences(one: Verified) -> list[str]:
    """The fields that differ, as ``name: said, recomputed other``."""
    if one.recomputed is None:
        return ["nothing is decided there now"]
    said, now = (orjson.loads(encode_decision(decision)) for decision in (one.decision, one.recomputed))
    return list(_differences("", said, now))


def _differences(name: str, said: Any, now: Any) -> Iterator[str]:
    if isinstance(said, dict) and isinstance(now, dict):
        for key in {**said, **now}:
            yield from _differences(f"{name}.{key}" if name else key, said.get(key), now.get(key))
    elif said != now:
        yield f"{name}: {said}, recomputed {now}"
