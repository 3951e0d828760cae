"""The edge's figures: once for Prometheus, once for people, from the same list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.edge.decision_feed import Follower
from engine.edge.delivery import Delivery
from engine.edge.servers import Clients
from engine.edge.service import OF_EDGE, OF_ENGINE, Desk
from engine.edge.spool import Spool
from engine.edge.state_dir import StateFolder
from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, Declared, Sample, exposition
from topics.decisions import REASON_DIGITS

NEVER = -1
SHADOWS = [(whose, reason) for whose in (OF_EDGE, OF_ENGINE) for reason in REASON_DIGITS]
PREFIX = "tidegate_edge_"


class Parts(NamedTuple):
    """What has figures."""

    desk: Desk
    follower: Follower
    clients: Clients
    spool: Spool
    delivery: Delivery
    folder: StateFolder


def _declared(name: str, kind: str, meaning: str, *labels: str) -> Declared:
    return Declared(PREFIX + name, kind, meaning, labels)


ANSWERS = _declared("answers", COUNTER, "Answers given to mail servers, by why.", "why")
SHADOWED = _declared(
    "shadowed",
    COUNTER,
    "Answers that would have been deferrals, by whose shadow they fell in, engine or edge, and the decision's reason.",
    "by",
    "reason",
)
MALFORMED = _declared("malformed", COUNTER, "Requests that broke their protocol.")
DECISIONS = _declared(
    "decisions", GAUGE, "Decisions held in memory, those in shadow and released ones that are remembered among them."
)
EXEMPTIONS = _declared("exemptions", GAUGE, "Exemptions held in memory.")
REFUSED = _declared("decisions_refused", COUNTER, "Decisions and exemptions left out for want of room.")
IGNORED = _declared("decisions_ignored", COUNTER, "Decisions that were not newer than what is held.")
UNREADABLE = _declared("records_unreadable", COUNTER, "Records on the topics that are followed which can't be read.")
LAG = _declared("lag_records", GAUGE, "Records on the topics that are followed and not read yet.")
AGE = _declared("age_seconds", GAUGE, "Seconds since everything on the topics had been read; -1: never.")
FRESH = _declared("fresh", GAUGE, "1 while decisions are trusted, 0 when nobody is throttled for want of news.")
LATENCY = _declared(
    "decision_latency_seconds",
    HISTOGRAM,
    "Seconds from an event to the moment at which this edge goes by the throttle that it led to.",
)
SNAPSHOT_AGE = _declared(
    "snapshot_age_seconds", GAUGE, "Seconds since what the snapshot on disk is as of; -1: there is none."
)
EDGES = _declared("edges", GAUGE, "Edges alive, which share the rates.")
CLIENTS = _declared("clients", GAUGE, "Clients connected.")
CLIENTS_REFUSED = _declared("clients_refused", COUNTER, "Clients turned away beyond the limit.")
CLIENTS_CUT_OFF = _declared("clients_cut_off", COUNTER, "Clients cut off because they were too slow.")
OPEN = _declared("connections_open", GAUGE, "Connections of senders that have not ended.")
DELIVERED = _declared("events_delivered", COUNTER, "Connection events that are in Kafka.")
LOST = _declared("events_lost", COUNTER, "Connection events lost: no room, no disk, or no event.")
SPOOL_BATCHES = _declared("spool_batches", GAUGE, "Batches of events that wait on disk for Kafka.")
SPOOL_BYTES = _declared("spool_bytes", GAUGE, "Bytes of events on disk.")
SPOOL_DROPPED = _declared("spool_batches_dropped", COUNTER, "Batches dropped: beyond the limit, or damaged.")


def figures(parts: Parts, now_ms: int) -> Iterator[Sample]:
    """All of them, those of one name together."""
    desk, follower, clients, spool, delivery, folder = parts
    table = desk.table
    for why, count in desk.answered.items():
        yield Sample(ANSWERS, count, (why,))
    for labels in sorted({*SHADOWS, *desk.shadowed}):
        yield Sample(SHADOWED, desk.shadowed[labels], labels)
    yield Sample(MALFORMED, desk.malformed)
    yield Sample(DECISIONS, len(table))
    yield Sample(EXEMPTIONS, len(table.exemptions))
    yield Sample(REFUSED, table.refused)
    yield Sample(IGNORED, table.ignored)
    yield Sample(UNREADABLE, follower.unreadable)
    yield Sample(LAG, follower.lag)
    yield Sample(AGE, _since_s(follower.heard_ms, now_ms))
    yield Sample(FRESH, int(now_ms <= table.trusted_until_ms))
    yield Sample(LATENCY, follower.latency)
    if folder.keeps:
        yield Sample(SNAPSHOT_AGE, _since_s(folder.saved_ms, now_ms))
    yield Sample(EDGES, table.edges)
    yield Sample(CLIENTS, len(clients.wires))
    yield Sample(CLIENTS_REFUSED, clients.refused)
    yield Sample(CLIENTS_CUT_OFF, clients.cut_off)
    yield Sample(OPEN, len(desk.connections))
    yield Sample(DELIVERED, delivery.delivered)
    yield Sample(LOST, desk.connections.dropped + delivery.unspooled + delivery.unsendable)
    yield Sample(SPOOL_BATCHES, len(spool))
    yield Sample(SPOOL_BYTES, spool.octets)
    yield Sample(SPOOL_DROPPED, spool.dropped_batches)


METRICS = tuple(value for value in globals().values() if isinstance(value, Declared))


def _since_s(moment_ms: int, now_ms: int) -> float:
    return (now_ms - moment_ms) / 1000 if moment_ms else NEVER


def prometheus(parts: Parts, now_ms: int) -> bytes:
    """The text format."""
    return exposition(figures(parts, now_ms))


HEALTH = (DECISIONS, EXEMPTIONS, LAG, AGE, EDGES, SPOOL_BATCHES)


def health(parts: Parts, now_ms: int) -> dict[str, Any]:
    """What matters when something is wrong."""
    found = {
        sample.metric.name.removeprefix(PREFIX): sample.value
        for sample in figures(parts, now_ms)
        if sample.metric in HEALTH
    }
    return {"fresh": now_ms <= parts.desk.table.trusted_until_ms, "shadow": str(parts.desk.shadow), **found}
