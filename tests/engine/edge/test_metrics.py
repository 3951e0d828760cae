"""The edge's metrics are those that its parts count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from engine.edge.connections import ConnectionTracker
from engine.edge.decision_feed import DecisionFeed, FeedOptions
from engine.edge.metrics import METRICS, EdgeParts, health, prometheus
from engine.edge.reply import ReplyText
from engine.edge.servers import ClientLimits, Clients
from engine.edge.service import EdgeService
from engine.edge.spool import Spool
from engine.edge.state_dir import StateDir
from engine.edge.table import DecisionTable
from tests.support.metrics import family_names, sample_values


def edge_parts(folder: Path) -> EdgeParts:
    table = DecisionTable(1000)
    service = EdgeService(table, ConnectionTracker(1000, reported=True), ReplyText("{ip}"))
    feed = DecisionFeed(table, FeedOptions("", 1000, 1000, {}))
    delivery = cast(Any, SimpleNamespace(delivered=3, unspooled=1, unsendable=2))
    return EdgeParts(
        service,
        feed,
        Clients(ClientLimits(10, 1.0, 1.0)),
        Spool(folder / "spool", 1 << 20),
        delivery,
        StateDir(folder),
    )


def test_metrics_are_complete_and_those_that_the_edge_counted(tmp_path: Path) -> None:
    parts = edge_parts(tmp_path)
    parts.service.peek("192.0.2.1", 1)
    parts.feed.latency.observe(0.2)

    text = prometheus(parts, 5_000)

    assert {metric.exposed for metric in METRICS} <= {
        name if name in {metric.exposed for metric in METRICS} else f"{name}_total" for name in family_names(text)
    }
    values = sample_values(text)
    assert values["tidegate_edge_events_lost_total", ()] == 3
    assert values["tidegate_edge_snapshot_age_seconds", ()] == -1
    assert values["tidegate_edge_decision_latency_seconds_count", ()] == 1
    assert sum(value for (name, _), value in values.items() if name == "tidegate_edge_replies_total") == 1
    assert values["process_cpu_seconds_total", ()] > 0
    assert health(parts, 5_000)["lag_records"] == 0
