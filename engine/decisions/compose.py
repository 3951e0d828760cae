"""Verdicts of the detector to decisions for the topic: names, evidence, and the reply that an MTA gives.

The reply's tag is AS, one digit for the reason and seven digits of a CRC-32 over network and time of issue: the same
wherever and whenever the decision is computed again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.decisions.shadow import NO_SHADOW, Shadow
from engine.detector.constants import HOUR, PROBATION_DAYS, SCALE_MS, SCALE_NAMES, SCALES
from engine.detector.pools import pool_text
from engine.detector.verdict import RELEASE
from topics import decisions
from topics.decisions import OVERRIDE, POOL, PROBATION, REASON_DIGITS, VOLUME, Decision, Source
from topics.keys import network_text
from topics.overrides import EXEMPT, Override

MODEL = "peak-memory/2"
BY_LENGTH = sorted(range(SCALES), key=SCALE_MS.__getitem__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the operator lets an MTA say: ``status`` by reason, ``text`` with the fields {ip}, {network}, {retry_s}."""

    status: dict[str, str]
    text: str

    def compose(self, network: str, reason: str, issued_ms: int, rate_per_min: float) -> dict[str, Any]:
        """The reply's code, enhanced status, tag and text for a network."""
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
    """What is finite, shortest scale first: one that doesn't speak has no limit."""
    return {SCALE_NAMES[s]: round(float(values[s]), 3) for s in BY_LENGTH if np.isfinite(values[s])}


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes decisions of one source topic under one configuration (``config``: the hash that names it). What falls in
    ``shadow`` says so; it is the same but for that. What operators say by hand never does."""

    topic: str
    config: str
    reply: Reply
    shadow: Shadow = NO_SHADOW

    def decision(self, verdict: Any, partition: int) -> Decision:
        """The decision for one row of VERDICT."""
        network = network_text(int(verdict["key"]), int(verdict["prefix"]))
        issued_ms, release, reason = int(verdict["issued_ms"]), verdict["kind"] == RELEASE, _reason(verdict)
        rate_per_min = round(float(verdict["rate_per_h"]) / 60, 6)
        return Decision(
            network=network,
            verdict=decisions.RELEASE if release else self.shadow.verdict(_judged(verdict), reason),
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

    def withdrawal(self, network: str, term_ms: tuple[int, int], source: Source, override: Override) -> Decision:
        """The end of a network's throttle because of an override; ``term_ms``: now, and when it would have ended."""
        said = {"override": _override_evidence(override)}
        issued_ms, until_ms = term_ms
        return Decision(
            network, decisions.RELEASE, issued_ms, until_ms, 0.0, 0.0, OVERRIDE, {}, said, source, MODEL, self.config
        )

    def put_in_shadow(self, network: str, term_ms: tuple[int, int], source: Source) -> Decision:
        """The end of a network's throttle because it falls in the shadow; as an order's, since readers know that."""
        by = Override(
            network, EXEMPT, decisions.SHADOW, term_ms[0], None, reason=str(self.shadow), by="the configuration"
        )
        return self.withdrawal(network, term_ms, source, by)

    def by_hand(self, override: Override, source: Source) -> Decision:
        """The throttle that an operator wants."""
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
    """Who wanted it, and why."""
    names = ("network", "action", "created", "owner", "reason", "by")
    return {name: getattr(override, name) for name in names if getattr(override, name) != ""}


def _reason(verdict: Any) -> str:
    if verdict["prefix"] or verdict["within"] or verdict["pool"]:
        return POOL
    return VOLUME if verdict["active_days"] > PROBATION_DAYS else PROBATION


def _judged(verdict: Any) -> str:
    """The network that was in excess: a pass stands and falls with the throttled prefix that it is for."""
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
