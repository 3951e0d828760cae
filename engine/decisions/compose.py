"""Compose the decisions of a topic from the detector's verdicts and from overrides: names, evidence, and the MTA's reply.

The reply's tag is AS, one digit for the reason, and seven digits of a CRC-32 over network and time of issue. Computing the
decision again gives the same tag.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.decisions.shadow import NO_SHADOW, ShadowRules
from engine.detector.constants import HOUR, PROBATION_DAYS, SCALE_MS, SCALE_NAMES, SCALES
from engine.detector.pools import pool_text
from engine.detector.verdict import RELEASE
from topics import decisions
from topics.decisions import OVERRIDE, POOL, PROBATION, REASON_DIGITS, VOLUME, Decision, Source
from topics.networks import network_text
from topics.overrides import EXEMPT, Override

MODEL = "peak-memory/2"
BY_LENGTH = sorted(range(SCALES), key=SCALE_MS.__getitem__)


@dataclass(frozen=True, slots=True)
class ReplyTexts:
    """The operator's texts for the reply to a throttled sender."""

    status: dict[str, str]  # enhanced status code by reason
    text: str  # may have the fields {ip}, {network} and {retry_s}

    def compose(self, network: str, reason: str, issued_ms: int, rate_per_min: float) -> dict[str, Any]:
        """Return the reply's code, enhanced status, tag and text for a network."""
        digest = zlib.crc32(f"{network} {issued_ms}".encode()) % 10_000_000
        address = network if ":" in network else network.removesuffix("/32")
        text = self.text.format(
            ip=address, network=network, retry_s=max(60, round(60 / rate_per_min)) if rate_per_min > 0 else 3600
        )
        return {
            "code": 451,
            "status": self.status[reason],
            "tag": f"AS{REASON_DIGITS[reason]}{digest:07d}",
            "text": text,
        }


def _by_scale(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the finite values, shortest scale first; a scale without a limit has none."""
    return {SCALE_NAMES[s]: round(float(values[s]), 3) for s in BY_LENGTH if np.isfinite(values[s])}


class Term(NamedTuple):
    """When a withdrawal is issued, and when the throttle would have expired: event times in ms."""

    issued_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes the decisions of one source topic under one configuration. Manual throttles are never in shadow."""

    topic: str  # of the events
    config: str  # hash of the options that change decisions
    reply: ReplyTexts
    shadow: ShadowRules = NO_SHADOW

    def decision(self, verdict: Any, partition: int) -> Decision:
        """Return the decision for one row of VERDICT."""
        network = network_text(int(verdict["key"]), int(verdict["prefix"]))
        issued_ms, release, reason = int(verdict["issued_ms"]), verdict["kind"] == RELEASE, _reason(verdict)
        rate_per_min = round(float(verdict["rate_per_h"]) / 60, 6)
        return Decision(
            network=network,
            verdict=decisions.RELEASE if release else self.shadow.verdict(_network_in_excess(verdict), reason),
            issued=issued_ms,
            until=int(verdict["until_ms"]),
            rate_per_min=0.0 if release else rate_per_min,
            burst=0.0 if release else round(float(verdict["burst"]), 3),
            reason="" if release else reason,
            reply={} if release else self.reply.compose(network, reason, issued_ms, rate_per_min),
            evidence={} if release else _evidence(verdict),
            source=Source(self.topic, partition, int(verdict["offset"])),
            model=MODEL,
            config=self.config,
        )

    def withdrawal(self, network: str, term: Term, source: Source, override: Override) -> Decision:
        """Return the end of a network's throttle because of an override."""
        return Decision(
            network=network,
            verdict=decisions.RELEASE,
            issued=term.issued_ms,
            until=term.until_ms,
            rate_per_min=0.0,
            burst=0.0,
            reason=OVERRIDE,
            reply={},
            evidence={"override": _override_evidence(override)},
            source=source,
            model=MODEL,
            config=self.config,
        )

    def shadow_withdrawal(self, network: str, term: Term, source: Source) -> Decision:
        """Return the end of a network's throttle because of shadow mode; readers treat it as an override's."""
        reason, by = str(self.shadow), "the configuration"
        override = Override(network, EXEMPT, decisions.SHADOW, term.issued_ms, None, reason=reason, by=by)
        return self.withdrawal(network, term, source, override)

    def manual_throttle(self, override: Override, source: Source) -> Decision:
        """Return the decision of an override of kind throttle."""
        network, issued_ms, rate_per_min = override.network, override.created, round(override.rate_per_min, 6)
        return Decision(
            network=network,
            verdict=decisions.THROTTLE,
            issued=issued_ms,
            until=override.until or issued_ms,
            rate_per_min=rate_per_min,
            burst=round(override.burst, 3),
            reason=OVERRIDE,
            reply=self.reply.compose(network, OVERRIDE, issued_ms, rate_per_min),
            evidence={"override": _override_evidence(override)},
            source=source,
            model=MODEL,
            config=self.config,
        )


def _override_evidence(override: Override) -> dict[str, Any]:
    names = ("network", "action", "created", "owner", "reason", "by")
    evidence = {name: getattr(override, name) for name in names if getattr(override, name) != ""}
    return {**evidence, "forced": True} if override.forced else evidence


def _reason(verdict: Any) -> str:
    if verdict["prefix"] or verdict["within"] or verdict["pool"]:
        return POOL
    return VOLUME if verdict["active_days"] > PROBATION_DAYS else PROBATION


def _network_in_excess(verdict: Any) -> str:
    """Return the network that exceeded its limit; for a known sender's pass that is the throttled prefix around it."""
    return network_text(int(verdict["key"]), int(verdict["within"] or verdict["prefix"]))


def _evidence(verdict: Any) -> dict[str, Any]:
    if verdict["prefix"]:
        hour = SCALE_NAMES[HOUR]
        counter, limit = (round(float(verdict[name][HOUR]), 3) for name in ("counter", "limit"))
        return {"scales": [hour], "counters": {hour: counter}, "limits": {hour: limit}}
    scales, within, pool = int(verdict["scales"]), int(verdict["within"]), int(verdict["pool"])
    return {
        **({"within": network_text(int(verdict["key"]), within)} if within else {}),
        **({"pool": _pool_evidence(verdict, pool)} if pool else {}),
        "scales": [SCALE_NAMES[s] for s in BY_LENGTH if scales >> s & 1],
        "counters": _by_scale(verdict["counter"]),
        "limits": _by_scale(verdict["limit"]),
        "peaks": _by_scale(verdict["memory"]),
        "active_days": int(verdict["active_days"]),
        "first_seen": int(verdict["first_seen_s"]) * 1000,
        "threshold": round(float(verdict["threshold"]), 3),
    }


def _pool_evidence(verdict: Any, pool: int) -> dict[str, Any]:
    return {
        "network": pool_text(pool),
        "new_senders": round(float(verdict["pool_keys"]), 3),
        "messages": round(float(verdict["pool_volume"]), 3),
        "usual": round(float(verdict["pool_usual"]), 3),
    }
