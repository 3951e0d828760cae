"""Throttle decisions as they are on the `decisions` topic and in NDJSON: one JSON object, version 1.

On the topic a release is a tombstone (key: the network, value: null); its header ``release`` has the JSON that is the value
in NDJSON. Readers let a decision expire at ``until`` by their own clock, and ignore one that doesn't `supersede` the last one
of the same network and source partition. They ignore unknown fields too, which later versions may add.

A decision in the engine's shadow mode has the verdict "shadow" instead of "throttle". It replaces the network's last decision
like any other, defers no mail, and is released like any other. It is a verdict, not a field next to "throttle", because
readers ignore unknown fields and would defer; no reader makes a reply of an unknown verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from topics.closed_json import amount_of, integer_of, object_of, parse_object, text_of, time_of
from topics.networks import network_of

DECISION_VERSION = 1
RELEASE_HEADER = "release"
MAX_AMOUNT = 1e9  # of rate and burst
THROTTLE, SHADOW, RELEASE = "throttle", "shadow", "release"
THROTTLING = (THROTTLE, SHADOW)  # verdicts with a rate, applied or only logged
VOLUME, PROBATION, POOL = "volume", "probation", "pool"
OVERRIDE = "override"  # reason of a decision that an operator's override or a change of shadow rules led to
REASON_DIGITS = {VOLUME: 1, PROBATION: 2, POOL: 3, OVERRIDE: 4}  # the first digit after AS of a reply's tag


class BadDecision(ValueError):
    """A record on the decisions topic that isn't a decision; the message says why."""


class Precedence(NamedTuple):
    """The rank of a decision among those of one network and source partition, see `supersedes`."""

    offset: int  # source offset, one more for a release with reason "override"
    is_throttle: bool  # the verdict is throttle or shadow


def supersedes(held: Precedence, new: Precedence) -> bool:
    """Return True if a reader that holds one decision applies another of the same network and source partition.

    A lower source offset is ignored, because a worker that replays after a crash publishes old decisions again. One event may
    end a throttle and begin the next: at an equal offset a throttle is applied and a release is ignored. A release with reason
    "override" ends decisions of its own event too, so it counts from one offset later. Readers remember a release until its
    decision's ``until``, or a replayed throttle would come back.
    """
    return new >= held


@dataclass(frozen=True, slots=True)
class Source:
    """The event that led to a decision; of a manual throttle, its override."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A throttle of a network, or the release that ends it. A plain release has no reason, reply or evidence."""

    network: str  # CIDR text
    verdict: str  # "throttle", "shadow" or "release"
    issued: int  # ms since epoch, event time
    until: int  # ms since epoch, event time
    rate_per_min: float
    burst: float  # messages
    reason: str  # "volume", "probation", "pool" or "override"
    reply: dict[str, Any]  # fields as the README documents
    evidence: dict[str, Any]  # fields as the README documents; of reason "override", the override
    source: Source
    model: str
    config: str  # "sha256:..." of the options that change decisions

    @property
    def is_throttle(self) -> bool:
        """True if the verdict is throttle or shadow."""
        return self.verdict in THROTTLING

    @property
    def precedence(self) -> Precedence:
        """Its rank for `supersedes`."""
        later = self.verdict == RELEASE and self.reason == OVERRIDE
        return Precedence(self.source.offset + later, self.is_throttle)


def encode_decision(decision: Decision) -> bytes:
    """Return the decision's JSON with its fields in order; a release has only the fields that it needs."""
    fields: dict[str, Any] = {
        "network": decision.network,
        "verdict": decision.verdict,
        "issued": decision.issued,
        "until": decision.until,
    }
    if decision.is_throttle:
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
    """Read a decision's JSON. Raise `BadDecision`, and no other exception, if a field is missing or not of its closed type."""
    try:
        fields = parse_object(value)
        source, network = object_of(fields, "source"), text_of(fields, "network")
        network_of(network)
        return Decision(
            network=network,
            verdict=text_of(fields, "verdict"),
            issued=time_of(fields, "issued"),
            until=time_of(fields, "until"),
            rate_per_min=amount_of(fields, "rate_per_min", MAX_AMOUNT),
            burst=amount_of(fields, "burst", MAX_AMOUNT),
            reason=text_of(fields, "reason", ""),
            reply=object_of(fields, "reply"),
            evidence=object_of(fields, "evidence"),
            source=Source(
                text_of(source, "topic"),
                integer_of(source, "partition"),
                integer_of(source, "offset", least=-1),  # -1: decided from logs, before the topic's first record
            ),
            model=text_of(fields, "model"),
            config=text_of(fields, "config"),
        )
    except ValueError as error:
        raise BadDecision(f"not a decision: {error}") from error
