"""Figures for Prometheus: what they say is what the engine and the edge counted, and each says what it means."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from engine.edge.connections import Connections
from engine.edge.decision_feed import Follower, Following
from engine.edge.metrics import METRICS as EDGE
from engine.edge.metrics import Parts, health, prometheus
from engine.edge.reply import Reply
from engine.edge.servers import Clients, Limits
from engine.edge.service import Desk
from engine.edge.spool import Spool
from engine.edge.state_dir import StateFolder
from engine.edge.table import Table
from engine.metrics.exposition import LATENCY_S, Declared, Histogram, Sample, exposition
from engine.web.health_checks import complaints_of
from engine.worker.metrics import METRICS as WORKER
from engine.worker.metrics import samples
from engine.worker.status import COUNTS, status_of
from tests.engine.worker.test_apply import EVENTS, Bench, batch_of


def read(octets: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and label values."""
    return {
        (sample.name, tuple(value for name, value in sample.labels.items() if name != "le")): sample.value
        for family in text_string_to_metric_families(octets.decode())
        for sample in family.samples
    }


def names(octets: bytes) -> set[str]:
    return {line.split(" ")[2] for line in octets.decode().splitlines() if line.startswith("# TYPE ")}


async def feed(bench: Bench, first: int, last: int) -> None:
    batches = [batch_of(EVENTS[at : min(at + 97, last)]) for at in range(first, last, 97)]
    await bench.take(b"".join(batches), first)


async def bench_after(events: int) -> Bench:
    bench = Bench()
    await feed(bench, 0, events)
    return bench


@given(st.lists(st.floats(-1.0, 1e5)))
def test_a_histogram_is_what_the_clients_own_would_be(values: list[float]) -> None:
    ours, registry = Histogram(), prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("h", "h", buckets=LATENCY_S, registry=registry)
    for value in values:
        ours.observe(value)
        theirs.observe(max(0.0, value))
    expected = {
        sample.labels["le"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "h_bucket"
    }
    assert dict(ours.buckets()) == expected
    assert ours.sum == pytest.approx(sum(max(0.0, value) for value in values))


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 3.0))
    assert histogram.quantile(0.5) is None
    for value in (0.5, 1.5, 1.5, 9.0):
        histogram.observe(value)
    assert [histogram.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [1.0, 2.0, 2.0, float("inf")]


@pytest.mark.parametrize("metric", [*WORKER, *EDGE], ids=lambda metric: metric.name)
def test_each_metric_says_in_one_sentence_what_it_means(metric: Declared) -> None:
    assert re.fullmatch(r"tidegate(_[a-z0-9]+)+", metric.name)
    assert not metric.name.endswith("_total")
    assert re.fullmatch(r"[A-Z1][^\n]{15,}\.", metric.meaning)
    assert metric.meaning.startswith("Seconds ") == metric.name.endswith("_seconds")


async def test_a_workers_figures_are_those_of_its_state() -> None:
    bench = await bench_after(3000)
    status = status_of(bench.engine, lambda number: 3100)
    octets = exposition(samples(status, bench.engine.flow.latency, {}))
    found, site = read(octets), bench.partition.state.site[0]
    assert found["tidegate_events_total", ("2",)] == site["events"] > 2000
    assert found["tidegate_events_late_total", ("2",)] == site["late"]
    assert found["tidegate_records_total", ()] == 3000
    assert found["tidegate_keys", ("2",)] == bench.partition.keys
    assert found["tidegate_table_fill_ratio", ("2",)] == bench.partition.keys / len(bench.partition.state.rows)
    assert found["tidegate_consumer_lag_events", ("2",)] == 100
    thrown = sum(value for (name, _), value in found.items() if name == "tidegate_throttles_total")
    assert thrown == found["tidegate_decision_latency_seconds_count", ()] == bench.engine.flow.throttles > 0
    assert thrown + found["tidegate_releases_total", ()] == len(bench.published)
    missing = {metric.name for metric in WORKER} - {name.removesuffix("_total") for name in names(octets)}
    assert missing == {"tidegate_standby_keys", "tidegate_notifications"}, (
        "no standbys, nobody told: no figures of them"
    )


async def test_counters_begin_when_a_partition_is_taken_over() -> None:
    bench = await bench_after(2000)
    shard = bench.shards.only
    assert shard is not None
    shard.opened = bench.partition.state.site.copy()
    before = int(bench.partition.state.site["events"][0])
    await feed(bench, 2000, 3000)
    status = status_of(bench.engine, lambda number: None)
    only = status["partitions"]["2"]
    assert only["since_taken"]["events"] == status["events"] - before > 0
    assert set(only["since_taken"]) == set(COUNTS)
    assert only["lag"] is None
    assert "tidegate_consumer_lag_events" not in names(exposition(samples(status, bench.engine.flow.latency, {})))


async def test_what_comes_again_is_counted_as_duplicate() -> None:
    bench = await bench_after(500)
    await feed(bench, 0, 400)
    assert bench.engine.flow.duplicates == 400
    await feed(bench, 0, 700)
    assert (bench.engine.flow.duplicates, bench.engine.flow.records) == (900, 1200)
    assert int(bench.partition.state.site["events"][0]) + int(bench.partition.state.site["poison"][0]) == 700


async def test_lag_is_told_in_seconds_by_the_records_own_time() -> None:
    bench = await bench_after(100)
    shard = bench.shards.only
    assert shard is not None
    shard.stamp_ms = int(time.time() * 1000) - 90_000
    behind = status_of(bench.engine, lambda number: 200)["partitions"]["2"]
    assert (behind["lag"], 90 <= behind["lag_s"] < 120) == (100, True)
    caught_up = status_of(bench.engine, lambda number: 100)["partitions"]["2"]
    assert (caught_up["lag"], caught_up["lag_s"]) == (0, 0.0)


def well() -> dict[str, Any]:
    partition = {"guard_tripped_ms": None, "lag": 0, "lag_s": 0.0, "checkpoint_age_s": 1.0, "keys": 10, "capacity": 100}
    established = {"messages": 1e6, "deferred": 100.0, "share": 0.0001, "budget": 0.005}
    return {"partitions": {"0": {**partition, "established": established}}, "restoring": {}, "standbys": {}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lag_s": 61.0, "lag": 7}, "partition 0 is 61 s and 7 events behind"),
        ({"checkpoint_age_s": 600.0}, "partition 0 had its last checkpoint 600 s ago"),
        ({"keys": 99}, "partition 0 has a full table"),
        ({"guard_tripped_ms": 1}, "partition 0 has its breaker tripped"),
        ({"established": {"share": 0.006, "budget": 0.005}}, "partition 0 has deferred 0.60% of known senders' mail"),
    ],
)
def test_what_is_not_well_is_said_with_what_to_do(change: dict[str, Any], said: str) -> None:
    status = well()
    assert complaints_of(status) == []
    status["partitions"]["0"].update(change)
    (complaint,) = complaints_of(status)
    assert complaint.startswith(said)


def test_a_worker_without_partitions_is_not_well() -> None:
    assert complaints_of({"partitions": {}, "restoring": {}, "standbys": {}})[0].startswith("it has no partition")
    assert complaints_of({"partitions": {}, "restoring": {}, "standbys": {"0": {}}}) == []
    assert complaints_of({"partitions": {}, "restoring": {"3": {"share": 0.25}}, "standbys": {}}) == [
        "partition 3 is being restored, 25% of its changelog is read"
    ]


def edge_parts(folder: Path) -> Parts:
    table = Table(1000)
    desk = Desk(table, Connections(1000, reported=True), Reply("{ip}"))
    follower = Follower(table, Following("", 1000, 1000, {}))
    delivery = cast(Any, SimpleNamespace(delivered=3, unspooled=1, unsendable=2))
    state = StateFolder(folder)
    return Parts(desk, follower, Clients(Limits(10, 1.0, 1.0)), Spool(folder / "spool", 1 << 20), delivery, state)


def test_an_edges_figures_are_all_there_and_those_that_it_counted(tmp_path: Path) -> None:
    parts = edge_parts(tmp_path)
    parts.desk.look("192.0.2.1", 1)
    parts.follower.latency.observe(0.2)
    octets = prometheus(parts, 5_000)
    assert {metric.exposed for metric in EDGE} <= {
        name if name in {metric.exposed for metric in EDGE} else f"{name}_total" for name in names(octets)
    }
    found = read(octets)
    assert found["tidegate_edge_events_lost_total", ()] == 3
    assert found["tidegate_edge_snapshot_age_seconds", ()] == -1
    assert found["tidegate_edge_decision_latency_seconds_count", ()] == 1
    assert sum(value for (name, _), value in found.items() if name == "tidegate_edge_answers_total") == 1
    assert found["process_cpu_seconds_total", ()] > 0
    assert health(parts, 5_000)["lag_records"] == 0


def test_samples_of_one_metric_are_one_family() -> None:
    metric = Declared("m", "gauge", "What it is.", ("a",))
    octets = exposition(
        [Sample(metric, 1, ("x",)), Sample(Declared("n", "gauge", "Another."), 2), Sample(metric, 3, ("y",))]
    )
    assert octets.decode().count("# TYPE m gauge") == 1
    assert read(octets)["m", ("y",)] == 3
