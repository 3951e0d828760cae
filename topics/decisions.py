"""A throttle decision, as it stands on the `decisions` topic and in NDJSON: one JSON object, version 1.

On the topic a release is a tombstone (key: the network, value: null); its header ``release`` carries the same JSON that
NDJSON has as a line. Readers let a decision end at ``until`` by their own clock, and ignore a value whose source offset is
lower than the one they hold for that network and partition. One event may end a throttle and begin the next: at the same
offset a throttle stands and a release is ignored. A release whose reason is "override" ends whatever came from that event or
before: it counts as if its offset were one more. Unknown fields are for later versions: ignore them.

A decision in the engine's shadow has the verdict "shadow" where it would have "throttle", and is the same but for that: it
takes the place of what was held for its network, nobody is deferred by it, and its release is a release. It is a verdict and no
field beside "throttle" because readers ignore fields that they don't know, and would defer; no reader makes a reply of a
verdict that it doesn't know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

DECISION_VERSION = 1
RELEASE_HEADER = "release"
THROTTLE, SHADOW, RELEASE = "throttle", "shadow", "release"
HOLDING = (THROTTLE, SHADOW)
VOLUME, PROBATION, POOL = "volume", "probation", "pool"
OVERRIDE = "override"  # the reason of what an operator has said
REASON_DIGITS = {VOLUME: 1, PROBATION: 2, POOL: 3, OVERRIDE: 4}  # the first digit behind AS of a reply's tag


class BadDecision(ValueError):
    """A record on the decisions topic that isn't a decision; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Source:
    """The event that led to a decision."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Decision:
    """``verdict`` "throttle", "shadow" or "release"; ``issued``, ``until``: ms since epoch, event time; ``burst``: messages;
    ``reason``: "volume", "probation", "pool" or "override"; ``reply``, ``evidence``: as documented in the README; a release
    has none of the three, unless its reason is "override": then ``evidence`` says whose. ``config``: "sha256:..." of the
    options that change decisions."""

    network: str
    verdict: str
    issued: int
    until: int
    rate_per_min: float
    burst: float
    reason: str
    reply: dict[str, Any]
    evidence: dict[str, Any]
    source: Source
    model: str
    config: str

    @property
    def holds(self) -> bool:
        """Whether it holds its network to a rate, be it in shadow alone."""
        return self.verdict in HOLDING


def encode_decision(decision: Decision) -> bytes:
    """The decision's JSON, in the order of its fields; a release says only what a release needs."""
    fields: dict[str, Any] = {
        "network": decision.network,
        "verdict": decision.verdict,
        "issued": decision.issued,
        "until": decision.until,
    }
    if decision.holds:
        fields |= {
            "rate_per_min": decision.rate_per_min,
            "burst": decision.burst,
            "reason": decision.reason,
            "reply": decision.reply,
            "evidence": decision.evidence,
        }
    elif decision.reason:
        fields |= {"reason": decision.reason, "evidence": decision.evidence}
    fields |= {
        "source": {
            "topic": decision.source.topic,
            "partition": decision.source.partition,
            "offset": decision.source.offset,
        },
        "model": decision.model,
        "config": decision.config,
        "v": DECISION_VERSION,
    }
    return orjson.dumps(fields)


def decode_decision(value: bytes) -> Decision:
    """Read a decision's JSON; `BadDecision` when a required field is missing or of another type."""
    try:
        fields = orjson.loads(value)
        source = fields["source"]
        return Decision(
            network=str(fields["network"]),
            verdict=str(fields["verdict"]),
            issued=int(fields["issued"]),
            until=int(fields["until"]),
            rate_per_min=float(fields.get("rate_per_min", 0.0)),
            burst=float(fields.get("burst", 0.0)),
            reason=str(fields.get("reason", "")),
            reply=dict(fields.get("reply", {})),
            evidence=dict(fields.get("evidence", {})),
            source=Source(str(source["topic"]), int(source["partition"]), int(source["offset"])),
            model=str(fields["model"]),
            config=str(fields["config"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadDecision(f"not a decision: {type(error).__name__}: {error}") from error
