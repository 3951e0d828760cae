"""Whether decisions are what their inputs lead to: the events are gone through again and the JSON is compared, octet by octet.

A decision's inputs are the events of its partition up to its source offset, those of its own sender before all. So one that is
equal vouches for them as far as they show, and where one isn't, what changed lies behind the last equal one on the same
network: a span of offsets, and in it the sender's own events. What an operator ordered isn't computed and not verified here:
the audit has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from topics.decisions import OVERRIDE, Decision, encode_decision

Place = tuple[str, str, int, int]
SHOWN_EVENTS = 10


@dataclass(frozen=True, slots=True)
class Verified:
    """``recomputed``: what the events lead to at the decision's place, None if nothing; ``since``: the offset of the last
    equal one on its network, -1 if there is none."""

    decision: Decision
    recomputed: Decision | None
    since: int

    @property
    def equal(self) -> bool:
        """Byte for byte."""
        return self.recomputed is not None and encode_decision(self.recomputed) == encode_decision(self.decision)


def place(decision: Decision) -> Place:
    """What tells one decision from another."""
    return decision.network, decision.verdict, decision.source.partition, decision.source.offset


def verify(given: Sequence[Decision], recomputed: Iterable[Decision]) -> list[Verified]:
    """Each given decision that the model made, by partition and offset, with what the events lead to at its place."""
    computed = {place(decision): decision for decision in recomputed}
    ours = {place(decision): decision for decision in given if decision.reason != OVERRIDE}
    found: list[Verified] = []
    vouched: dict[tuple[str, int], int] = {}
    for decision in sorted(ours.values(), key=lambda one: (one.source.partition, one.source.offset, one.verdict)):
        by = decision.network, decision.source.partition
        one = Verified(decision, computed.get(place(decision)), vouched.get(by, -1))
        found.append(one)
        if one.equal:
            vouched[by] = decision.source.offset
    return found


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


def in_lines(found: Sequence[Verified], own_offsets: Sequence[int], gone: int) -> Iterator[str]:
    """The answer for people. ``own_offsets``: of the sender's events; ``gone``: how many offsets the topic has no more."""
    equal = sum(one.equal for one in found)
    yield f"{equal:,} of {len(found):,} decisions are what the events lead to, byte for byte"
    if gone:
        yield f"gone: offsets 0 to {gone - 1:,} were deleted from the topic, and every decision rests on them"
    for one in found:
        if one.equal:
            continue
        decision, source = one.decision, one.decision.source
        yield f"{decision.network}, {decision.verdict} from offset {source.offset:,} of partition {source.partition}:"
        yield from (f"  {line}" for line in differences(one))
        last = f"the last equal one is from offset {one.since:,}" if one.since >= 0 else "no earlier one is equal"
        yield f"  {last}, so the input that changed or is gone lies in offsets {one.since + 1:,} to {source.offset:,}"
        inside = [offset for offset in own_offsets if one.since < offset <= source.offset]
        if inside:
            more = f" and {len(inside) - SHOWN_EVENTS:,} more" if len(inside) > SHOWN_EVENTS else ""
            yield f"  its own events there: {', '.join(map(str, inside[:SHOWN_EVENTS]))}{more}"
