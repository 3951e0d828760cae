"""The edge's figures: once for Prometheus, once for people, from the same list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.edge.delivery import Delivery
from engine.edge.desk import Desk
from engine.edge.following import Follower
from engine.edge.servers import Clients
from engine.edge.spool import Spool

NEVER = -1


class Parts(NamedTuple):
    """What has figures."""

    desk: Desk
    follower: Follower
    clients: Clients
    spool: Spool
    delivery: Delivery


class Figure(NamedTuple):
    """``kind``: counter or gauge; ``labels``: as Prometheus writes them, braces included, or ""."""

    name: str
    kind: str
    meaning: str
    value: float
    labels: str = ""


def figures(parts: Parts, now_ms: int) -> Iterator[Figure]:
    """All of them, those of one name together."""
    desk, follower, clients, spool, delivery = parts
    table = desk.table
    for why, count in desk.answered.items():
        yield Figure("answers_total", "counter", "answers by why", count, f'{{why="{why}"}}')
    yield Figure("shadowed_total", "counter", "would have been deferred, in shadow mode", desk.shadowed)
    yield Figure("malformed_total", "counter", "requests that broke their protocol", desk.malformed)
    yield Figure("decisions", "gauge", "decisions held", len(table))
    yield Figure("exemptions", "gauge", "exemptions held", len(table.exemptions))
    yield Figure("decisions_refused_total", "counter", "for want of room", table.refused)
    yield Figure("decisions_ignored_total", "counter", "not newer than what is held", table.ignored)
    yield Figure("records_unreadable_total", "counter", "on the topics that are followed", follower.unreadable)
    yield Figure("lag_records", "gauge", "on the topics and not read", follower.lag)
    age_s = (now_ms - follower.heard_ms) / 1000 if follower.heard_ms else NEVER
    yield Figure("age_seconds", "gauge", "since everything was read, -1: never", age_s)
    yield Figure("fresh", "gauge", "1: decisions are trusted", int(now_ms <= table.trusted_until_ms))
    yield Figure("edges", "gauge", "edges alive, which share the rates", table.edges)
    yield Figure("clients", "gauge", "connected", len(clients.wires))
    yield Figure("clients_refused_total", "counter", "beyond the limit", clients.refused)
    yield Figure("clients_cut_off_total", "counter", "too slow", clients.cut_off)
    yield Figure("connections_open", "gauge", "connections that have not ended", len(desk.connections))
    yield Figure("events_delivered_total", "counter", "in Kafka", delivery.delivered)
    lost = desk.connections.dropped + delivery.unspooled + delivery.unsendable
    yield Figure("events_lost_total", "counter", "no room, no disk, or no event", lost)
    yield Figure("spool_batches", "gauge", "batches of events that wait for Kafka", len(spool))
    yield Figure("spool_bytes", "gauge", "on disk", spool.octets)
    yield Figure("spool_batches_dropped_total", "counter", "beyond the limit, or damaged", spool.dropped_batches)


def prometheus(parts: Parts, now_ms: int) -> str:
    """The text format."""
    lines, last = [], ""
    for figure in figures(parts, now_ms):
        name = f"tidegate_edge_{figure.name}"
        if name != last:
            lines += [f"# HELP {name} {figure.meaning}", f"# TYPE {name} {figure.kind}"]
            last = name
        lines.append(f"{name}{figure.labels} {figure.value}")
    return "\n".join(lines) + "\n"


def health(parts: Parts, now_ms: int) -> dict[str, Any]:
    """What matters when something is wrong."""
    wanted = ("decisions", "exemptions", "lag_records", "age_seconds", "edges", "spool_batches")
    found = {figure.name: figure.value for figure in figures(parts, now_ms) if figure.name in wanted}
    return {"fresh": now_ms <= parts.desk.table.trusted_until_ms, "shadow": parts.desk.shadow, **found}
