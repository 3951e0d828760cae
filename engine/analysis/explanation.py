"""Explain why a sender is throttled or not: its history, expectation, counts, the limit exceeded, and the release condition.

The explanation is made of a partition's state, as the sender's next event would find it, and of the decisions on its network.
Expected is, for a sender with closed active days, its own peak of an active day; for a newcomer, the 90th percentile of
newcomers' peaks at this site.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from engine.detector.constants import PROBATION_DAYS, SCALE_MS, SCALE_NAMES
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import THROTTLED
from engine.state.inspect import row_of, standing
from engine.state.partition import Partition
from topics.decisions import SHADOW, THROTTLE, Decision, encode_decision
from topics.networks import network_of, network_text
from topics.overrides import EXEMPT, Override, encode_line
from topics.times import duration_text, time_text
from topics.words import decision_text, override_text

SHOWN_DECISIONS = 5


@dataclass(frozen=True, slots=True)
class ScaleCount:
    """A sender's decayed count on one scale. Infinite values are null in JSON."""

    scale: str
    observed: float  # messages
    expected: float  # infinite if the model expects nothing
    limit: float  # infinite if there is none
    quiet_ms: int  # until the count is within its limit if nothing more arrives, 0 if it is

    @property
    def exceeded(self) -> bool:
        """True if this count alone is reason to throttle."""
        return self.observed > self.limit


@dataclass(frozen=True, slots=True)
class SenderHistory:
    """The part of a sender's row that is older than its counts."""

    stage: str  # newcomer, probation or known
    first_seen_ms: int
    last_seen_ms: int
    active_days: int
    accepted: int  # messages
    rejected: int
    typical_per_h: float  # messages in the busiest hour of a usual active day


@dataclass(frozen=True, slots=True)
class Throttle:
    """An active throttle."""

    until_ms: int
    rate_per_min: float
    burst: float
    decision: Decision | None  # None if neither the topic nor the file has it any more
    shadow: bool = False  # edges don't defer


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a sender at one time."""

    network: str
    at_ms: int
    history: SenderHistory | None  # None for a sender without a row
    counts: list[ScaleCount]
    throttle: Throttle | None
    decisions: Sequence[Decision]  # on this network and those around it until then, oldest first
    config: str  # hash of the configuration
    breaker_tripped_ms: int | None  # None while the circuit breaker is closed
    overrides: Sequence[Override] = ()  # smallest network first
    decides: bool = True  # False while the site learns or only watches

    @property
    def throttled(self) -> bool:
        """True if edges defer the mail beyond its rate."""
        return self.throttle is not None and not self.throttle.shadow and not self.exempt

    @property
    def exempt(self) -> bool:
        """True if edges let it pass whatever the model decides."""
        return any(override.kind == EXEMPT for override in self.overrides)

    def as_json(self) -> dict[str, Any]:
        """Return the explanation for programs."""
        throttle = self.throttle
        return {
            "network": self.network,
            "at": self.at_ms,
            "throttled": self.throttled,
            "shadow": throttle is not None and throttle.shadow,
            "overrides": [orjson.loads(encode_line(override)) for override in self.overrides],
            "past": self.history and asdict(self.history),
            "counts": [{**asdict(count), "exceeded": count.exceeded} for count in self.counts],
            "allowed": throttle and {"rate_per_min": throttle.rate_per_min, "burst": throttle.burst},
            "until": throttle and throttle.until_ms,
            "reason": throttle and throttle.decision and throttle.decision.reason,
            "release": self.release(),
            "headroom": self.headroom(),
            "decisions": [orjson.loads(encode_decision(decision)) for decision in self.decisions],
            "config": self.config,
            "breaker_tripped_ms": self.breaker_tripped_ms,
            "decides": self.decides,
        }

    def release(self) -> str:
        """Return in words when a throttled sender is released, or when another one would be throttled."""
        if self.exempt:
            return "an operator's override exempts it"
        if self.throttle is None:
            return self._headroom_text()
        ends = f"ends at {time_text(self.throttle.until_ms)}, unless a count is above its limit by then"
        above = [count for count in self.counts if count.exceeded]
        if not above:
            return f"{ends}; all counts are within their limits now"
        longest = max(above, key=lambda count: count.quiet_ms)
        within = duration_text(longest.quiet_ms)
        return f"{ends}; the {longest.scale} count is within its limit in {within} if nothing more arrives"

    def headroom(self) -> int | None:
        """Return how many messages may arrive now within every limit; None for a sender without a row."""
        if not self.counts:
            return None
        return max(0, math.floor(min(count.limit - count.observed for count in self.counts)))

    def _headroom_text(self) -> str:
        if not self.counts:
            return "not throttled: the state doesn't know it, so a first message makes it a newcomer"
        nearest = min(self.counts, key=lambda count: count.limit - count.observed)
        if not nearest.exceeded:
            return f"not throttled: {self.headroom():,} more messages now stay within every limit (nearest: {nearest.scale})"
        if self.decides:
            then = "its next accepted message is judged"
        else:
            then = "no sender is throttled while the site learns or only watches"
        return f"not throttled, but its {nearest.scale} count is above its limit: {then}"


def explain(partition: Partition, key: int, at_ms: int, decisions: Sequence[Decision], config: str) -> Explanation:
    """Return the explanation as of `at_ms`, which must not be before the partition's clock. `config`: its hash."""
    number, network = row_of(partition, key), network_text(key)
    before = [decision for decision in decisions if decision.issued <= at_ms]
    active = active_decision(before, at_ms)
    if number == NO_ROW:
        throttle = None if active is None else _throttle_of_decision(active)
        return Explanation(
            network, at_ms, None, [], throttle, before, config, partition.breaker_tripped_ms, decides=partition.decides
        )
    row = partition.state.rows[number]
    projected = standing(partition, number, at_ms)[0]
    history = _history(row, int(projected["active_days"]))
    throttle = None
    own = next((made for made in reversed(before) if made.network == network), None)
    around = active if active is not None and active.network != network else None
    if row["flags"] & THROTTLED and row["until_ms"] > at_ms and not (around and own and own.verdict == SHADOW):
        throttle = _throttle_of_row(row, own, at_ms)
    elif around is not None:
        throttle = _throttle_of_decision(around)
    expected = projected["memory"] if history.active_days else newcomers_peak(partition)
    counts = [_scale_count(s, projected, float(expected[s])) for s in range(len(SCALE_NAMES))]
    return Explanation(
        network,
        at_ms,
        history,
        counts,
        throttle,
        before,
        config,
        partition.breaker_tripped_ms,
        decides=partition.decides,
    )


def _throttle_of_decision(decision: Decision) -> Throttle:
    return Throttle(decision.until, decision.rate_per_min, decision.burst, decision, shadow=decision.verdict == SHADOW)


def _throttle_of_row(row: Any, own: Decision | None, at_ms: int) -> Throttle:
    """Return the throttle that a row records. `own`: the last decision on its network, if it is still available."""
    rate, shadow = float(row["rate_per_h"]), own is not None and _is_shadow(own)
    decision = own if own is not None and own.is_throttle and own.until > at_ms else None
    burst = max(1.0, rate) if decision is None else decision.burst
    return Throttle(int(row["until_ms"]), round(rate / 60, 6), round(burst, 3), decision, shadow)


def _is_shadow(own: Decision) -> bool:
    """True if a decision is in shadow, or was withdrawn because its network was put in shadow."""
    return SHADOW in (own.verdict, own.evidence.get("override", {}).get("action"))


def active_decision(decisions: Sequence[Decision], at_ms: int) -> Decision | None:
    """Return the decision that an edge applies: the active one of the longest network, a live one before one in shadow.

    `decisions` are in order of issue.
    """
    latest = {decision.network: decision for decision in decisions}
    active = [made for made in latest.values() if made.is_throttle and made.until > at_ms]
    return min(active, key=lambda made: (made.verdict != THROTTLE, -network_of(made.network).length), default=None)


def newcomers_peak(partition: Partition) -> npt.NDArray[np.float64]:
    """Return the 90th percentile of newcomers' peaks by scale; infinite on scales where newcomers aren't counted."""
    peak, known = np.full(len(SCALE_NAMES), np.inf), partition.state.site["cohort_q90"][0]
    peak[: len(known)] = known
    return peak


def _history(row: Any, active_days: int) -> SenderHistory:
    stage = "newcomer" if active_days == 0 else "probation" if active_days <= PROBATION_DAYS else "known"
    return SenderHistory(
        stage,
        int(row["first_seen_s"]) * 1000,
        int(row["last_ms"]),
        active_days,
        int(row["accepted"]),
        int(row["rejected"]),
        round(math.expm1(float(row["typical"])), 3),
    )


def _scale_count(scale: int, projected: Any, expected: float) -> ScaleCount:
    observed, limit = float(projected["counter"][scale]), float(projected["limit"][scale])
    quiet_ms = math.ceil(SCALE_MS[scale] * math.log(observed / limit)) if observed > limit > 0 else 0
    return ScaleCount(SCALE_NAMES[scale], round(observed, 3), round(expected, 3), round(limit, 3), quiet_ms)


STAGES = {
    "newcomer": "a newcomer, compared with the newcomers to this site",
    "probation": "on probation: few active days, compared with those and a floor",
    "known": "known, compared with its own peak of an active day",
}


def in_lines(explanation: Explanation) -> Iterator[str]:
    """Yield the explanation for people."""
    state, throttle = "not throttled", explanation.throttle
    if throttle is not None:
        mode = "in shadow, so it passes; it would be throttled" if throttle.shadow else "throttled"
        state = f"{mode} until {time_text(throttle.until_ms)}"
    if explanation.exempt:
        state = f"exempt, so it passes; without the override {state}"
    yield f"{explanation.network} at {time_text(explanation.at_ms)}: {state}"
    if explanation.breaker_tripped_ms is not None:
        yield (
            f"Circuit breaker: open since {time_text(explanation.breaker_tripped_ms)}, as throttles hit too many known "
            "senders; no new throttle is issued until it is re-armed"
        )
    if not explanation.decides:
        yield "Site: it learns or only watches (model.learning_days, model.sensitivity), so no sender is throttled"
    for override in explanation.overrides:
        yield f"Override: {override.network} is {override_text(override)}"
    if throttle is not None:
        yield from _decision_lines(throttle, explanation.config)
    yield from _history_lines(explanation)
    yield f"{'Release' if throttle else 'Headroom'}: {explanation.release()}"
    if explanation.decisions:
        yield f"Decisions so far: {len(explanation.decisions)}; the latest:"
        yield from (
            f"  {time_text(made.issued)}  {decision_text(made)}" for made in explanation.decisions[-SHOWN_DECISIONS:]
        )


def _decision_lines(throttle: Throttle, config: str) -> Iterator[str]:
    decision = throttle.decision
    if decision is None:
        reason = ", as its network was put in shadow" if throttle.shadow else ""
        yield f"Decision: no longer on the topic{reason}; the state has it"
    else:
        scales = decision.evidence.get("scales", ())
        exceeded = f" (limit of {' and '.join(scales)} exceeded)" if scales else ""
        yield f"Decision: {decision.reason}{exceeded}, reply {decision.reply.get('tag', '-')}"
        if decision.config != config:
            yield f"  made under another configuration: {decision.config[:19]}, not {config[:19]}"
    yield f"Allowed: {throttle.rate_per_min * 60:,.1f} messages an hour, burst {throttle.burst:,.0f}"


def _history_lines(explanation: Explanation) -> Iterator[str]:
    history = explanation.history
    if history is None:
        yield "History: none, the state doesn't know this sender"
        return
    yield f"History: {STAGES[history.stage]}"
    yield (
        f"  {history.active_days} active days since {time_text(history.first_seen_ms)}, last seen "
        f"{time_text(history.last_seen_ms)}; {history.accepted:,} messages accepted, {history.rejected:,} refused; "
        f"{history.typical_per_h:,.1f} in a usual busiest hour"
    )
    yield "Counts:  scale    observed    expected       limit  of limit"
    for count in explanation.counts:
        share = f"{count.observed / count.limit:.0%}"
        mark = "  exceeded" if count.exceeded else ""
        expected, limit = (
            f"{value:,.1f}" if math.isfinite(value) else "none" for value in (count.expected, count.limit)
        )
        yield f"         {count.scale:<5}{count.observed:>12,.1f}{expected:>12}{limit:>12}{share:>10}{mark}"
