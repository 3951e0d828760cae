"""The answer of `tidegate explain --verify`, in lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.analysis.findings import (
    CONFIGURATION,
    DECISION,
    DELETED,
    EVENTS,
    MODEL_VERSION,
    OTHERS,
    OWN,
    WARMED,
    Answer,
    Finding,
    finding,
)
from engine.analysis.pinning import Change
from engine.analysis.recomputing import OwnEvents
from engine.analysis.verify import Turn, Verified, differences
from engine.decisions.compose import MODEL
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED
from topics.times import moment, span

SHOWN_EVENTS, HASH_LENGTH = 10, 19
OUTCOMES = {ACCEPTED: "accepted", DEFERRED: "deferred", REJECTED: "rejected"}


def in_lines(answer: Answer) -> Iterator[str]:
    """The answer for people."""
    found = answer.found
    yield f"{sum(one.equal for one in found):,} of {len(found):,} decisions are what the events lead to, byte for byte"
    if answer.gone:
        yield f"gone: offsets 0 to {answer.gone - 1:,} were deleted from the topic, and every decision rests on them"
    if moved := sum(one.only_moved for one in found):
        yield f"{moved:,} more are but for their source offsets"
    for turn in answer.turns:
        yield (
            f"{_many(turn.events, 'event')} than then in offsets {turn.since + 1:,} to {turn.until:,} of partition "
            f"{turn.partition}: what follows has other offsets now"
        )
    for one in found:
        if not one.equal and not one.only_moved:
            yield from _one_in_lines(one, answer)


def _many(count: int, what: str) -> str:
    return f"{abs(count):,} {what}{'' if abs(count) == 1 else 's'} {'more' if count > 0 else 'fewer'}"


def _one_in_lines(one: Verified, answer: Answer) -> Iterator[str]:
    decision, source = one.decision, one.decision.source
    yield f"{decision.network}, {decision.verdict} from offset {source.offset:,} of partition {source.partition}:"
    yield from (f"  {line}" for line in differences(one))
    found = finding(one, answer)
    yield from (f"  changed: {_said(what, one, answer, found)}" for what in found.changed)
    if {OWN, OTHERS, EVENTS} & {*found.changed}:
        yield f"  where: offsets {found.within[0]:,} to {found.within[1]:,} of partition {source.partition}; {_why(one, found)}"
        yield from _own_in_lines(found.inside)


def _said(what: str, one: Verified, answer: Answer, found: Finding) -> str:
    decision = one.decision
    return {
        CONFIGURATION: f"the configuration: decided under {decision.config[:HASH_LENGTH]}, computed under "
        f"{answer.config[:HASH_LENGTH]}; give the one of then (`tidegate config` says which one holds)",
        MODEL_VERSION: f"the model: decided by {decision.model}, computed by {MODEL}; take the version of then",
        DELETED: "events were deleted from the topic",
        WARMED: "the state was begun with old logs (`tidegate warm`), which aren't on the topic",
        OWN: f"its own events: {_own_change(found)}",
        OTHERS: "other senders' events, on which its limits rest; its own are as they were",
        EVENTS: "events of the partition",
        DECISION: "the decision itself: checkpoints of the state up to there and behind are what the events lead to",
    }[what] + (
        f" ({', '.join(found.apart.networks)})" if what == OTHERS and found.apart and found.apart.networks else ""
    )


def _own_change(found: Finding) -> str:
    change = found.change
    if change is None:
        counted = found.apart and [
            _many(count, f"{name} message")
            for count, name in ((found.apart.accepted, "accepted"), (found.apart.rejected, "rejected"))
            if count
        ]
        if counted:
            return f"{' and '.join(counted)} than then, and not in one event"
        if found.apart is not None:
            return "as many messages as then, at other times or in another order"
        return "more than one of them, their times or their order"
    when = f"of {moment(change.at_ms)}, give or take {span(max(1000, change.give_ms))}"
    return f"{_many(change.messages, 'message')} than then, {when}{_suspected(found.suspects, change)}"


def _suspected(suspects: OwnEvents | None, change: Change) -> str:
    """What the change may have been, said of the events at its time."""
    if suspects is None:
        return ""
    if not len(suspects.offset):
        return "; what it was is gone from there"
    if len(suspects.offset) > 1:
        return f"; one of the {len(suspects.offset)} events at that time"
    offset, messages = int(suspects.offset[0]), int(suspects.messages[0])
    before = messages - change.messages
    if change.messages < 0:
        return f": offset {offset:,} says {messages:,}, it said {before:,}, or an event beside it is gone"
    return f": offset {offset:,} says {messages:,}, " + (f"it said {before:,}" if before > 0 else "and wasn't there")


def _why(one: Verified, found: Finding) -> str:
    if found.change is not None:
        return "by the time of the change and its events around it"
    if found.apart is not None:
        alike = "no earlier one is" if found.apart.after < 0 else f"that of offset {found.apart.after:,} is"
        return f"the checkpoint of offset {found.apart.offset:,} isn't what the events lead to, {alike}"
    return f"the last equal decision is from offset {one.since:,}" if one.since >= 0 else "no earlier decision is equal"


def _own_in_lines(inside: OwnEvents | None) -> Iterator[str]:
    if inside is None:
        yield "  its own events there: `tidegate explain` of this network alone lists them"
        return
    count = len(inside.offset)
    if count:
        yield f"  its own events there: {count:,}" + (f", the last {SHOWN_EVENTS}:" if count > SHOWN_EVENTS else ":")
    shown = (column[-SHOWN_EVENTS:].tolist() for column in inside)
    for offset, at_ms, messages, outcome in zip(*shown, strict=True):
        yield f"    {offset:>12,}  {moment(at_ms)}  {messages:,} {OUTCOMES[outcome]}"


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer for programs: those that are equal as a number alone."""
    found = answer.found
    return {
        "verified": len(found),
        "equal": sum(one.equal for one in found),
        "moved": sum(one.only_moved for one in found),
        "gone": answer.gone,
        "config": answer.config,
        "model": MODEL,
        "came_or_went": [_turn_as_json(turn) for turn in answer.turns],
        "checkpoints": answer.trail and {"compared": answer.trail.compared, "upto": answer.trail.upto},
        "differ": [_one_as_json(one, answer) for one in found if not one.equal and not one.only_moved],
    }


def _turn_as_json(turn: Turn) -> dict[str, Any]:
    return {"partition": turn.partition, "events": turn.events, "offsets": [turn.since + 1, turn.until]}


def _one_as_json(one: Verified, answer: Answer) -> dict[str, Any]:
    decision, found = one.decision, finding(one, answer)
    change = found.change
    return {
        "network": decision.network,
        "verdict": decision.verdict,
        "partition": decision.source.partition,
        "offset": decision.source.offset,
        "differences": differences(one),
        "changed": found.changed,
        "offsets": found.within,
        "change": change and {"messages": change.messages, "at": round(change.at_ms), "give_ms": round(change.give_ms)},
        "accepted": found.apart and found.apart.accepted,
        "rejected": found.apart and found.apart.rejected,
        "networks": found.apart.networks if found.apart else (),
        "suspects": _events_as_json(found.suspects),
        "events": _events_as_json(found.inside),
    }


def _events_as_json(events: OwnEvents | None) -> list[dict[str, Any]] | None:
    return events and [
        {"offset": offset, "at": at_ms, "messages": messages, "outcome": OUTCOMES[outcome]}
        for offset, at_ms, messages, outcome in zip(*(column.tolist() for column in events), strict=True)
    ]
