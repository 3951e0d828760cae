"""Which input of a decision that isn't equal any more has changed, and how, as far as can be known.

The configuration and the model are named in the decision. What its sender's counts hold rests on the sender's own events alone:
if they differ, one of these changed, and a single change is told by messages and time, and found among the events. If they
don't and limits do, other senders' events changed. Checkpoints, where there are any, say it of each interval between two of
them, with exact counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.analysis.pinning import EVIDENCE_STEP, Change, Counts, differ, single_change
from engine.analysis.recomputing import OwnEvents
from engine.analysis.trail import Apart, Trail
from engine.analysis.verify import Turn, Verified
from engine.decisions.compose import MODEL

CONFIGURATION, MODEL_VERSION, DELETED, WARMED = "configuration", "model", "deleted events", "history off the topic"
OWN, OTHERS, EVENTS, DECISION = "own events", "other senders' events", "events", "the decision itself"


class Answer(NamedTuple):
    """``turns``: where events came or went; ``own``: the sender's events, None if nobody's were kept; ``gone``: how many
    offsets the topic has no more; ``config``: the configuration now, as decisions name it; ``trail``: the partition beside its
    checkpoints, where there are any."""

    found: list[Verified]
    turns: list[Turn]
    own: OwnEvents | None
    gone: int
    config: str
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """``changed``: what did; ``within``: the offsets of the partition, both included, in which the events that changed lie;
    ``apart``: the checkpoints that say so, if any do; ``change``: how the sender's own events did; ``suspects``: those of them
    that it may be, ``inside``: all in the span, both None if they weren't kept."""

    changed: tuple[str, ...]
    within: tuple[int, int]
    apart: Apart | None
    change: Change | None
    suspects: OwnEvents | None
    inside: OwnEvents | None


def finding(one: Verified, answer: Answer) -> Finding:
    """What is known of one that isn't equal."""
    changed = tuple(_changed(one, answer))
    apart = _apart(one, answer.trail, changed)
    first, last = one.since + 1, one.decision.source.offset
    if apart is not None and apart.offset >= first and apart.after < last:
        first, last = max(first, apart.after + 1), min(last, apart.offset)
    elif answer.trail is not None and answer.trail.alike and first <= answer.trail.upto < last:
        first = answer.trail.upto + 1
    change, own, suspects = None, answer.own, None
    if OWN in changed:
        change = apart.change if apart else _change(one, own)
    if change is not None and own is not None:
        suspects = _near(own.between(first, last), own, change)
        first, last = _around(own, suspects, change, (first, last))
    return Finding(changed, (first, last), apart, change, suspects, None if own is None else own.between(first, last))


def _changed(one: Verified, answer: Answer) -> Iterator[str]:
    said, trail = one.decision, answer.trail
    named = [CONFIGURATION] * (said.config != answer.config) + [MODEL_VERSION] * (said.model != MODEL)
    yield from named
    if answer.gone:
        yield DELETED
    elif trail is not None and trail.rest is not None and trail.rest.offset < 0:
        yield WARMED
    elif _counts_differ(one, answer.own) or (trail is not None and _before(trail.own, one)):
        yield OWN
    elif not named:
        yield _elsewhere(one, answer)


def _before(apart: Apart | None, one: Verified) -> bool:
    """Whether checkpoints that are apart tell of a decision: the change lies before it."""
    return apart is not None and apart.after < one.decision.source.offset


def _elsewhere(one: Verified, answer: Answer) -> str:
    """What changed if it isn't known to be the sender's own events, nor anything that a decision names."""
    trail = answer.trail
    if trail is not None and trail.alike and trail.upto >= one.decision.source.offset:
        return DECISION
    told = bool(_counts(one, answer.own)) or (trail is not None and _before(trail.rest, one))
    return OTHERS if told else EVENTS


def _counts(one: Verified, own: OwnEvents | None) -> list[Counts]:
    """What the sender's row counts now at the moment of the decision; several if several events are of it, the likeliest
    first; none if it isn't known."""
    said, now = one.decision, one.recomputed
    if "counters" not in said.evidence:
        return []
    if now is not None and not one.moved and now.issued == said.issued:
        return [now.evidence["counters"]] if "counters" in now.evidence else []
    if own is None:
        return []
    likeliest = int(np.searchsorted(own.offset, said.source.offset, side="right"))
    counts = sorted(own.moments(said.issued), key=lambda count: abs(count - likeliest))
    return [own.counters(count, said.issued) for count in counts]


def _counts_differ(one: Verified, own: OwnEvents | None) -> bool:
    counts = _counts(one, own)
    return bool(counts) and all(differ(one.decision.evidence["counters"], each, EVIDENCE_STEP) for each in counts)


def _change(one: Verified, own: OwnEvents | None) -> Change | None:
    counts = _counts(one, own)
    return single_change(one.decision.evidence["counters"], counts[0], one.decision.issued) if counts else None


def _apart(one: Verified, trail: Trail | None, changed: Sequence[str]) -> Apart | None:
    """The checkpoints between which the change lies that counts for a decision."""
    if trail is None or WARMED in changed or not {OWN, OTHERS, EVENTS} & {*changed}:
        return None
    found = trail.own if OWN in changed else trail.rest
    return found if _before(found, one) else None


def _near(inside: OwnEvents, own: OwnEvents, change: Change) -> OwnEvents:
    """Those whose time is that of the change: one that comes late counts as of the moment that was reached."""
    if not len(inside.offset):
        return inside
    reached = np.maximum.accumulate(own.at_ms)[np.searchsorted(own.offset, inside.offset)]
    return inside.where(np.abs(reached - change.at_ms) <= change.give_ms)


def _around(own: OwnEvents, suspects: OwnEvents, change: Change, within: tuple[int, int]) -> tuple[int, int]:
    """The offsets in which the change lies: those of its suspects, or between the events before and after its time."""
    first, last = within
    if len(suspects.offset):
        return int(suspects.offset[0]), int(suspects.offset[-1])
    before = own.offset[own.at_ms < change.at_ms - change.give_ms]
    after = own.offset[own.at_ms > change.at_ms + change.give_ms]
    first = max(first, int(before.max()) + 1) if len(before) else first
    last = min(last, int(after.min())) if len(after) else last
    return (first, last) if first <= last else within
