"""The edge's metrics for Prometheus, and its health as JSON, computed from the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.edge.decision_feed import DecisionFeed
from engine.edge.delivery import Delivery
from engine.edge.servers import Clients
from engine.edge.service import OF_EDGE, OF_ENGINE, EdgeService
from engine.edge.spool import Spool
from engine.edge.state_dir import StateDir
from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, MetricDeclaration, Sample, exposition
from topics.decisions import REASON_DIGITS

NEVER = -1
SHADOWS = [(owner, reason) for owner in (OF_EDGE, OF_ENGINE) for reason in REASON_DIGITS]
PREFIX = "tidegate_edge_"


class EdgeParts(NamedTuple):
    """The parts of a running edge."""

    service: EdgeService
    feed: DecisionFeed
    clients: Clients
    spool: Spool
    delivery: Delivery
    state_dir: StateDir


def _declare(name: str, kind: str, meaning: str, *labels: str) -> MetricDeclaration:
    return MetricDeclaration(PREFIX + name, kind, meaning, labels)


REPLIES = _declare("replies", COUNTER, "Replies to mail servers, by reason.", "reason")
SHADOWED = _declare(
    "shadowed",
    COUNTER,
    "Replies that would be deferrals outside shadow mode, by whose mode it is (engine or edge) and the decision's reason.",
    "by",
    "reason",
)
MALFORMED = _declare("malformed", COUNTER, "Requests that violated their protocol.")
DECISIONS = _declare("decisions", GAUGE, "Decisions in memory, including those in shadow mode and remembered releases.")
EXEMPTIONS = _declare("exemptions", GAUGE, "Exemptions in memory.")
REFUSED = _declare("decisions_refused", COUNTER, "Decisions and exemptions dropped because the table was full.")
IGNORED = _declare("decisions_ignored", COUNTER, "Decisions not newer than the one in memory.")
UNREADABLE = _declare("records_unreadable", COUNTER, "Unreadable records on the topics of decisions and exemptions.")
IMPLAUSIBLE = _declare(
    "decisions_implausible",
    COUNTER,
    "Decisions ignored because no engine issues them, such as throttles of an IPv4 /8.",
)
LAG = _declare("lag_records", GAUGE, "Records on the topics of decisions and exemptions that are not read yet.")
AGE = _declare("age_seconds", GAUGE, "Seconds since this edge was last without lag; -1 before the first time.")
FRESH = _declare("fresh", GAUGE, "1 while decisions are trusted, 0 when they are too old and no sender is throttled.")
LATENCY = _declare(
    "decision_latency_seconds",
    HISTOGRAM,
    "Seconds from an event's timestamp to the time when this edge applies its throttle.",
)
SNAPSHOT_AGE = _declare("snapshot_age_seconds", GAUGE, "Seconds since the snapshot on disk was taken; -1 without one.")
EDGES = _declare("edges", GAUGE, "Edges alive; each gets an equal share of every rate.")
CLIENTS = _declare("clients", GAUGE, "Clients connected.")
CLIENTS_REFUSED = _declare("clients_refused", COUNTER, "Clients disconnected because there were too many.")
CLIENTS_CUT_OFF = _declare("clients_cut_off", COUNTER, "Clients disconnected because they were too slow.")
OPEN = _declare("connections_open", GAUGE, "Senders' connections that have not ended.")
DELIVERED = _declare("events_delivered", COUNTER, "Connection events written to Kafka.")
LOST = _declare("events_lost", COUNTER, "Connection events lost: memory or disk full, or not a valid event.")
SPOOL_BATCHES = _declare("spool_batches", GAUGE, "Batches of events on disk that wait for Kafka.")
SPOOL_BYTES = _declare("spool_bytes", GAUGE, "Bytes of events on disk.")
SPOOL_DROPPED = _declare(
    "spool_batches_dropped", COUNTER, "Batches dropped, because the spool was full or they were damaged."
)
METRICS = (
    *(REPLIES, SHADOWED, MALFORMED, DECISIONS, EXEMPTIONS, REFUSED, IGNORED, UNREADABLE, IMPLAUSIBLE),
    *(LAG, AGE, FRESH, LATENCY, SNAPSHOT_AGE, EDGES, CLIENTS, CLIENTS_REFUSED, CLIENTS_CUT_OFF, OPEN),
    *(DELIVERED, LOST, SPOOL_BATCHES, SPOOL_BYTES, SPOOL_DROPPED),
)
HEALTH = (DECISIONS, EXEMPTIONS, LAG, AGE, EDGES, SPOOL_BATCHES)


def samples(parts: EdgeParts, now_ms: int) -> Iterator[Sample]:
    """Yield the samples of all metrics, those of one metric in a row."""
    service, feed, clients, spool, delivery, state_dir = parts
    table = service.table
    for why, count in service.answered.items():
        yield Sample(REPLIES, count, (why,))
    for labels in sorted({*SHADOWS, *service.shadowed}):
        yield Sample(SHADOWED, service.shadowed[labels], labels)
    yield Sample(MALFORMED, service.malformed)
    yield Sample(DECISIONS, len(table))
    yield Sample(EXEMPTIONS, len(table.exemptions))
    yield Sample(REFUSED, table.refused)
    yield Sample(IGNORED, table.ignored)
    yield Sample(UNREADABLE, feed.unreadable.count)
    yield Sample(IMPLAUSIBLE, feed.implausible.count)
    yield Sample(LAG, feed.lag)
    yield Sample(AGE, _since_s(feed.caught_up_ms, now_ms))
    yield Sample(FRESH, int(now_ms <= table.trusted_until_ms))
    yield Sample(LATENCY, feed.latency)
    if state_dir.saves_snapshot:
        yield Sample(SNAPSHOT_AGE, _since_s(state_dir.saved_ms, now_ms))
    yield Sample(EDGES, table.live_edges)
    yield Sample(CLIENTS, len(clients.connected))
    yield Sample(CLIENTS_REFUSED, clients.refused)
    yield Sample(CLIENTS_CUT_OFF, clients.cut_off)
    yield Sample(OPEN, len(service.connections))
    yield Sample(DELIVERED, delivery.delivered)
    yield Sample(LOST, service.connections.dropped + delivery.unspooled + delivery.unsendable)
    yield Sample(SPOOL_BATCHES, len(spool))
    yield Sample(SPOOL_BYTES, spool.size_bytes)
    yield Sample(SPOOL_DROPPED, spool.dropped_batches)


def _since_s(time_ms: int, now_ms: int) -> float:
    return (now_ms - time_ms) / 1000 if time_ms else NEVER


def prometheus(parts: EdgeParts, now_ms: int) -> bytes:
    """Return all metrics in the text format."""
    return exposition(samples(parts, now_ms))


def health(parts: EdgeParts, now_ms: int) -> dict[str, Any]:
    """Return freshness, shadow and the metrics of `HEALTH` by their short names."""
    values = {
        sample.metric.name.removeprefix(PREFIX): sample.value
        for sample in samples(parts, now_ms)
        if sample.metric in HEALTH
    }
    return {"fresh": now_ms <= parts.service.table.trusted_until_ms, "shadow": str(parts.service.shadow), **values}
