"""Decisions, and their records on the topic, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRecord

from engine.web.decision_log import DecisionLog
from tests.support.sequences import DAY_MS, START_MS
from topics.decisions import RELEASE, THROTTLE, Decision, Source, encode_decision

A, B, C = "192.0.2.1/32", "192.0.2.2/32", "2001:db8::/64"


def decision(network: str, offset: int, verdict: str = THROTTLE, until: int = START_MS + DAY_MS) -> Decision:
    """Return a newcomer's throttle, or its release, caused by the event at ``offset``."""
    evidence = {
        "scales": ["24h"],
        "counters": {"24h": 9.0},
        "limits": {"24h": 5.0},
        "peaks": {"24h": 1.0},
        "active_days": 0,
    }
    throttle = verdict == THROTTLE
    return Decision(
        network, verdict, START_MS + offset, until, 0.5, 1.0, "probation" if throttle else "",
        {"code": 451, "status": "4.7.501", "tag": "AS20000001", "text": ""} if throttle else {},
        evidence if throttle else {}, Source("connections", 0, offset), "peak-memory/2", "sha256:00",
    )  # fmt: skip


def topic_record(topic: str, key: str, value: bytes | None, **headers: bytes) -> Any:
    """Return a record as aiokafka's consumer does."""
    return ConsumerRecord(topic, 0, 0, START_MS, 0, key.encode(), value, None, 0, 0, tuple(headers.items()))


def decision_record(published: Decision) -> Any:
    """Return the decision's record; a release has no value but a header."""
    if published.verdict == RELEASE:
        return topic_record("decisions", published.network, None, release=encode_decision(published))
    return topic_record("decisions", published.network, encode_decision(published))


def active_networks(log: DecisionLog, at_ms: int = START_MS, search: str = "") -> list[str]:
    """Return the networks of the log's active throttles, the last published first."""
    return [throttle.network for throttle in log.active(at_ms, search)]
