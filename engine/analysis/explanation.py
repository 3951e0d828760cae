"""Why a sender is throttled or not: its past, what was expected, what came, which limit spoke, and what would release it.

Made of a partition's state, as its next event would find it, and of the decisions on the network. Expected is, for a sender
with a past, its own most on an active day; for a newcomer what nine of ten newcomers to this site stay below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from engine.analysis.simulated_edge import place_of
from engine.detector.constants import PROBATION_DAYS, SCALE_MS, SCALE_NAMES
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import WAITING
from engine.overrides.changes import described
from engine.state.inspect import row_of, standing
from engine.state.partition import Partition
from topics.decisions import SHADOW, THROTTLE, Decision, encode_decision
from topics.keys import network_text
from topics.overrides import EXEMPT, Override, encode_line
from topics.times import moment, span
from topics.words import in_words

SHOWN_DECISIONS = 5


@dataclass(frozen=True, slots=True)
class Weighed:
    """One leaky count: messages over about ``scale``. ``expected``, ``limit``: infinite (null in JSON) where the model has
    none; ``quiet_ms``: how long until it is below its limit again if nothing more comes, 0 if it is."""

    scale: str
    observed: float
    expected: float
    limit: float
    quiet_ms: int

    @property
    def exceeded(self) -> bool:
        """Whether it alone is reason to throttle."""
        return self.observed > self.limit


@dataclass(frozen=True, slots=True)
class Past:
    """What the state knows of a sender. ``typical_per_h``: messages in the busiest hour of a usual active day."""

    stage: str
    first_seen_ms: int
    last_seen_ms: int
    active_days: int
    accepted: int
    rejected: int
    typical_per_h: float


@dataclass(frozen=True, slots=True)
class Throttle:
    """What is in force. ``told``: the decision that says so, if it is at hand; ``shadow``: nobody is deferred by it."""

    until_ms: int
    rate_per_min: float
    burst: float
    told: Decision | None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """``past`` is None for a sender that the state doesn't know; ``decisions``: on this network, and on those
    around it, up to then, oldest first; ``tripped_ms``: since when the fleet guard keeps all decisions back, if it does;
    ``overrides``: what operators have said of it, the smallest network first; ``decides``: whether the site throttles at
    all, or only learns or watches."""

    network: str
    at_ms: int
    past: Past | None
    weighed: list[Weighed]
    throttle: Throttle | None
    decisions: Sequence[Decision]
    config: str
    tripped_ms: int | None
    overrides: Sequence[Override] = ()
    decides: bool = True

    @property
    def throttled(self) -> bool:
        """Whether edges defer what is beyond its rate."""
        return self.throttle is not None and not self.throttle.shadow and not self.exempt

    @property
    def exempt(self) -> bool:
        """Whether edges let it pass whatever the model says."""
        return any(override.kind == EXEMPT for override in self.overrides)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        throttle = self.throttle
        return {
            "network": self.network,
            "at": self.at_ms,
            "throttled": self.throttled,
            "shadow": throttle is not None and throttle.shadow,
            "overrides": [orjson.loads(encode_line(override)) for override in self.overrides],
            "past": self.past and asdict(self.past),
            "counts": [{**asdict(found), "exceeded": found.exceeded} for found in self.weighed],
            "allowed": throttle and {"rate_per_min": throttle.rate_per_min, "burst": throttle.burst},
            "until": throttle and throttle.until_ms,
            "reason": throttle and throttle.told and throttle.told.reason,
            "release": self.release(),
            "room": self.room(),
            "decisions": [orjson.loads(encode_decision(decision)) for decision in self.decisions],
            "config": self.config,
            "guard_tripped": self.tripped_ms,
            "decides": self.decides,
        }

    def release(self) -> str:
        """What would release the sender, or what would have it throttled."""
        if self.exempt:
            return "it passes in any case, by what an operator said"
        if self.throttle is None:
            return self._room()
        ends = f"ends by itself at {moment(self.throttle.until_ms)}, unless a count is above its limit by then"
        above = [found for found in self.weighed if found.exceeded]
        if not above:
            return f"{ends}; all counts are within their limits now"
        longest = max(above, key=lambda found: found.quiet_ms)
        return (
            f"{ends}; the {longest.scale} count is within its limit in {span(longest.quiet_ms)} if nothing more comes"
        )

    def room(self) -> int | None:
        """Messages that may come at once before a limit is passed; None for an unknown sender."""
        return max(0, math.floor(min(found.limit - found.observed for found in self.weighed))) if self.weighed else None

    def _room(self) -> str:
        if not self.weighed:
            return "not throttled: the state doesn't know it, so a first message makes it a newcomer"
        nearest = min(self.weighed, key=lambda found: found.limit - found.observed)
        if nearest.exceeded:
            tells = (
                "its next accepted message will tell" if self.decides else "nobody is throttled while the site watches"
            )
            return f"not throttled, but its {nearest.scale} count is above its limit: {tells}"
        return (
            f"not throttled: {self.room():,} more messages at once stay within every limit (nearest: {nearest.scale})"
        )


def explain(partition: Partition, key: int, at_ms: int, decisions: Sequence[Decision], config: str) -> Explanation:
    """The model's answer as of ``at_ms``, which must not lie before what the partition has applied. ``config``: its hash."""
    number, network = row_of(partition, key), network_text(key)
    before = [decision for decision in decisions if decision.issued <= at_ms]
    told = in_force(before, at_ms)
    if number == NO_ROW:
        throttle = None if told is None else _said(told)
        return Explanation(
            network, at_ms, None, [], throttle, before, config, partition.tripped_ms, decides=partition.decides
        )
    row = partition.state.rows[number]
    found = standing(partition, number, at_ms)[0]
    past = _past(row, int(found["active_days"]))
    throttle = None
    own = next((made for made in reversed(before) if made.network == network), None)
    around = told if told is not None and told.network != network else None
    if row["flags"] & WAITING and row["until_ms"] > at_ms and not (around and own and own.verdict == SHADOW):
        throttle = _of_row(row, own, at_ms)
    elif around is not None:
        throttle = _said(around)
    expected = found["memory"] if past.active_days else newcomers_peak(partition)
    weighed = [_weighed(s, found, float(expected[s])) for s in range(len(SCALE_NAMES))]
    return Explanation(
        network, at_ms, past, weighed, throttle, before, config, partition.tripped_ms, decides=partition.decides
    )


def _said(told: Decision) -> Throttle:
    return Throttle(told.until, told.rate_per_min, told.burst, told, told.verdict == SHADOW)


def _of_row(row: Any, own: Decision | None, at_ms: int) -> Throttle:
    """What a row has in force. ``own``: the last decision on its network, if it is at hand."""
    rate, shadow = float(row["rate_per_h"]), own is not None and _is_shadow(own)
    told = own if own is not None and own.holds and own.until > at_ms else None
    burst = max(1.0, rate) if told is None else told.burst
    return Throttle(int(row["until_ms"]), round(rate / 60, 6), round(burst, 3), told, shadow)


def _is_shadow(own: Decision) -> bool:
    """Whether a decision is in shadow, or was withdrawn because a shadow fell on it."""
    return SHADOW in (own.verdict, own.evidence.get("override", {}).get("action"))


def in_force(decisions: Sequence[Decision], at_ms: int) -> Decision | None:
    """The decision that an edge goes by: of the longest network with one that isn't over, one in shadow only if there is no
    other; ``decisions`` in order of issue."""
    latest = {decision.network: decision for decision in decisions}
    live = [made for made in latest.values() if made.holds and made.until > at_ms]
    return min(live, key=lambda made: (made.verdict != THROTTLE, place_of(made.network).shift), default=None)


def newcomers_peak(partition: Partition) -> npt.NDArray[np.float64]:
    """What nine of ten newcomers to this site stay below, by scale; infinite where newcomers aren't counted."""
    peak, known = np.full(len(SCALE_NAMES), np.inf), partition.state.site["q90"][0]
    peak[: len(known)] = known
    return peak


def _past(row: Any, active_days: int) -> Past:
    stage = "newcomer" if active_days == 0 else "probation" if active_days <= PROBATION_DAYS else "known"
    return Past(
        stage,
        int(row["first_seen_s"]) * 1000,
        int(row["last_ms"]),
        active_days,
        int(row["accepted"]),
        int(row["rejected"]),
        round(math.expm1(float(row["typical"])), 3),
    )


def _weighed(scale: int, found: Any, expected: float) -> Weighed:
    observed, limit = float(found["counter"][scale]), float(found["limit"][scale])
    quiet_ms = math.ceil(SCALE_MS[scale] * math.log(observed / limit)) if observed > limit > 0 else 0
    return Weighed(SCALE_NAMES[scale], round(observed, 3), round(expected, 3), round(limit, 3), quiet_ms)


STAGES = {
    "newcomer": "a newcomer, measured against what newcomers to this site do",
    "probation": "on probation: few active days, measured against them and a floor",
    "known": "known, measured against its own most on an active day",
}


def in_lines(found: Explanation) -> Iterator[str]:
    """The answer for people."""
    state = "not throttled"
    if found.throttle is not None:
        held = "in shadow, so it passes; it would be throttled" if found.throttle.shadow else "throttled"
        state = f"{held} until {moment(found.throttle.until_ms)}"
    if found.exempt:
        state = f"exempt, so it passes; without that {state}"
    yield f"{found.network} at {moment(found.at_ms)}: {state}"
    if found.tripped_ms is not None:
        yield (
            f"Guard: tripped at {moment(found.tripped_ms)}, as throttles hit known senders as a rule; none is made until that "
            "is over"
        )
    if not found.decides:
        yield "Site: it learns, or is told to watch only (model.learning_days, model.sensitivity): nobody is throttled"
    for override in found.overrides:
        yield f"Override: {override.network} is {described(override)}"
    if found.throttle is not None:
        yield from _decision_lines(found.throttle, found.config)
    yield from _past_lines(found)
    yield f"{'Release' if found.throttle else 'Room'}: {found.release()}"
    if found.decisions:
        yield f"Decisions so far: {len(found.decisions)}; the latest:"
        yield from (f"  {moment(made.issued)}  {in_words(made)}" for made in found.decisions[-SHOWN_DECISIONS:])


def _decision_lines(throttle: Throttle, config: str) -> Iterator[str]:
    told = throttle.told
    if told is None:
        yield f"Decision: none on the topic any more{', as a shadow fell on it' if throttle.shadow else ''}; the state has it"
    else:
        scales = told.evidence.get("scales", ())
        spoke = f" (the {' and '.join(scales)} count{'s' * (len(scales) > 1)} spoke)" if scales else ""
        yield f"Decision: {told.reason}{spoke}, reply {told.reply.get('tag', '-')}"
        if told.config != config:
            yield f"  made under another configuration than this one: {told.config[:19]}, not {config[:19]}"
    yield f"Allowed: {throttle.rate_per_min * 60:,.1f} messages an hour, {throttle.burst:,.0f} at once"


def _past_lines(found: Explanation) -> Iterator[str]:
    past = found.past
    if past is None:
        yield "History: none, the state doesn't know this sender"
        return
    yield f"History: {STAGES[past.stage]}"
    yield (
        f"  {past.active_days} active days since {moment(past.first_seen_ms)}, last seen {moment(past.last_seen_ms)}; "
        f"{past.accepted:,} messages accepted, {past.rejected:,} refused; {past.typical_per_h:,.1f} in a usual busiest hour"
    )
    yield "Counts:  scale    observed    expected       limit  of limit"
    for one in found.weighed:
        share = f"{one.observed / one.limit:.0%}"
        mark = "  exceeded" if one.exceeded else ""
        expected, limit = (f"{value:,.1f}" if math.isfinite(value) else "none" for value in (one.expected, one.limit))
        yield f"         {one.scale:<5}{one.observed:>12,.1f}{expected:>12}{limit:>12}{share:>10}{mark}"
