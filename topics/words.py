"""Decisions and overrides as one line of text for people: network, amount, limit, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from topics.decisions import RELEASE as RELEASE_VERDICT
from topics.decisions import SHADOW, Decision
from topics.overrides import CONNECTOR, RELEASE, THROTTLE, THROTTLED, Override
from topics.times import time_text

_SCALES = {"1m": "a minute", "10m": "10 minutes", "1h": "an hour", "6h": "6 hours", "24h": "24 hours"}
_ORDERED = {CONNECTOR: "exempted", RELEASE: "released", THROTTLED: "throttled", SHADOW: "put in shadow"}


def decision_text(decision: Decision) -> str:
    """Return one sentence without line break, made from the decision alone.

    Evidence of another shape than the engine's gives a sentence with the reason alone.
    """
    try:
        explanation = _explanation(decision)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        reason = f"{decision.reason or decision.verdict}, with evidence that this version can't read"
        explanation = f"{reason}; {_throttle_text(decision)}" if decision.is_throttle else reason
    return f"{decision.network}: {explanation}"


def override_text(override: Override) -> str:
    """Return an override as text: effect, end, relay, owner, author and reason."""
    until = "until cancelled" if override.until is None else f"until {time_text(override.until)}"
    effect = "released" if override.action == RELEASE else "exempt"
    if override.kind == THROTTLE:
        effect = f"throttled to {override.rate_per_min * 60:g} per hour"
    named = {"relay": override.relay, "owner": override.owner, "by": override.by}
    rest = "".join(f", {name} {value}" for name, value in named.items() if value)
    return f"{effect} {until}{rest}" + (f" ({override.reason})" if override.reason else "")


def _explanation(decision: Decision) -> str:
    evidence = decision.evidence
    if decision.verdict == RELEASE_VERDICT:
        if "override" in evidence:
            return f"withdrawn, {_override_evidence_text(evidence['override'])}"
        return f"released, its throttle expired {_short_time(decision.until)}"
    if "override" in evidence:
        return f"{_override_evidence_text(evidence['override'])}; {_throttle_text(decision)}"
    if "within" in evidence:
        return (
            f"a known sender, so the throttle of {evidence['within']} doesn't apply to it; {_throttle_text(decision)}"
        )
    if "pool" in evidence:
        return f"{_pool_text(evidence['pool'])}; {_throttle_text(decision)}"
    if not evidence.get("scales"):  # a manual throttle of an earlier version
        return f"{decision.reason or 'throttled'}; {_throttle_text(decision)}"
    if "peaks" not in evidence:
        return _prefix_text(decision)
    return _sender_text(decision)


def _sender_text(decision: Decision) -> str:
    evidence, scale = decision.evidence, decision.evidence["scales"][-1]
    count, limit, peak = (_amount(evidence[name][scale]) for name in ("counters", "limits", "peaks"))
    days = evidence["active_days"]
    if days == 0:
        reason = f"new here, a newcomer may send {limit}"
    elif decision.reason == "probation":
        plural = "s" if days > 1 else ""
        reason = f"only {days} active day{plural} known (highest so far {peak}), so its limit is {limit}"
    else:
        reason = f"its highest in {days} active days was {peak}, so its limit is {limit}"
    return f"about {count} messages in {_SCALES.get(scale, scale)}; {reason}; {_throttle_text(decision)}"


def _prefix_text(decision: Decision) -> str:
    scale = decision.evidence["scales"][-1]
    count, limit = (_amount(decision.evidence[name][scale]) for name in ("counters", "limits"))
    return (
        f"about {count} messages in {_SCALES.get(scale, scale)} from more addresses than can be counted one by one; "
        f"newcomers of such a network may send {limit} together; {_throttle_text(decision)}"
    )


def _pool_text(pool: dict[str, Any]) -> str:
    senders = f"about {_amount(pool['new_senders'])} new senders" if pool["new_senders"] >= 2 else "new senders"
    return (
        f"in a pool, {senders} in {pool['network']} sent about {_amount(pool['messages'])} messages in an hour "
        f"where {_amount(pool['usual'])} are usual"
    )


def _override_evidence_text(override: dict[str, Any]) -> str:
    by = f" by {override['by']}" if "by" in override else ""
    reason = f": {override['reason']}" if "reason" in override else ""
    return f"{override['network']} was {_ORDERED.get(override['action'], override['action'])}{by}{reason}"


def _throttle_text(decision: Decision) -> str:
    per_hour = decision.rate_per_min * 60
    if per_hour >= 1:
        rate = f"{_amount(per_hour)} per hour"
    else:
        rate = f"one every {_amount(1 / per_hour)} hours" if per_hour > 0 else "nothing"
    mode = "shadow: would be throttled" if decision.verdict == SHADOW else "throttled"
    return f"{mode} to {rate} until {_short_time(decision.until)}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _short_time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%d %b %H:%M UTC")
