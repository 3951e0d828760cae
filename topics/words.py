"""A decision in one sentence, for people: who, how much, against what, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from topics.decisions import RELEASE, SHADOW, Decision

_SPANS = {"1m": "a minute", "10m": "10 minutes", "1h": "an hour", "6h": "6 hours", "24h": "24 hours"}


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _moment(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%d %b %H:%M UTC")


def _held(decision: Decision) -> str:
    per_hour = decision.rate_per_min * 60
    if per_hour >= 1:
        rate = f"{_amount(per_hour)} an hour"
    else:
        rate = f"one every {_amount(1 / per_hour)} hours" if per_hour > 0 else "nothing"
    held = "shadow: would be held" if decision.verdict == SHADOW else "held"
    return f"{held} to {rate} until {_moment(decision.until)}"


def _prefix_in_words(decision: Decision, scale: str) -> str:
    sent, limit = (_amount(decision.evidence[name][scale]) for name in ("counters", "limits"))
    return (
        f"{decision.network}: about {sent} messages in {_SPANS.get(scale, scale)} from addresses too many to be told apart; "
        f"newcomers of one such network may send {limit}; together {_held(decision)}"
    )


def _crowd_in_words(pool: dict[str, Any]) -> str:
    came = f"about {_amount(pool['new_senders'])} new senders" if pool["new_senders"] >= 2 else "new senders"
    return (
        f"one of a crowd, {came} in {pool['network']} "
        f"and about {_amount(pool['messages'])} messages in an hour where {_amount(pool['usual'])} are usual"
    )


_DONE = {"connector": "exempt", "release": "released", "throttle": "throttled", "shadow": "put in shadow"}


def _override_in_words(override: dict[str, Any]) -> str:
    by = f" by {override['by']}" if "by" in override else ""
    reason = f": {override['reason']}" if "reason" in override else ""
    return f"{override['network']} was {_DONE.get(override['action'], override['action'])}{by}{reason}"


def in_words(decision: Decision) -> str:
    """One sentence without line break; needs nothing but the decision."""
    evidence = decision.evidence
    if decision.verdict == RELEASE:
        if "override" in evidence:
            return f"{decision.network}: withdrawn, {_override_in_words(evidence['override'])}"
        return f"{decision.network}: released, its throttle ended {_moment(decision.until)}"
    if "override" in evidence:
        return f"{decision.network}: {_override_in_words(evidence['override'])}; {_held(decision)}"
    if "within" in evidence:
        return f"{decision.network}: known here, so what holds {evidence['within']} doesn't hold it; {_held(decision)}"
    if "pool" in evidence:
        return f"{decision.network}: {_crowd_in_words(evidence['pool'])}; {_held(decision)}"
    if not evidence.get("scales"):  # nobody's excess: an override
        return f"{decision.network}: {decision.reason or 'throttled'}; {_held(decision)}"
    scale = evidence["scales"][-1]
    if "peaks" not in evidence:
        return _prefix_in_words(decision, scale)
    sent, limit, peak = (evidence[name][scale] for name in ("counters", "limits", "peaks"))
    days = evidence["active_days"]
    if days == 0:
        against = f"new here, a newcomer may send {_amount(limit)}"
    elif decision.reason == "probation":
        plural = "s" if days > 1 else ""
        against = (
            f"only {days} active day{plural} known (most so far {_amount(peak)}), so the limit is {_amount(limit)}"
        )
    else:
        against = f"its own most over {days} active days was {_amount(peak)}, so the limit is {_amount(limit)}"
    return f"{decision.network}: about {_amount(sent)} messages in {_SPANS.get(scale, scale)}; {against}; {_held(decision)}"
