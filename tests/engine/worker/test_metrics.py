"""The worker's metrics and status are those of its state and its engine."""

from __future__ import annotations

import time

from engine.metrics.exposition import exposition
from engine.worker.metrics import METRICS as WORKER
from engine.worker.metrics import samples
from engine.worker.status import COUNTS, status_of
from tests.support.bench import EVENTS, Bench, batch_of
from tests.support.metrics import family_names, sample_values


async def feed(bench: Bench, first: int, last: int) -> None:
    batches = [batch_of(EVENTS[at : min(at + 97, last)]) for at in range(first, last, 97)]
    await bench.apply(b"".join(batches), first)


async def bench_after(events: int) -> Bench:
    bench = Bench()
    await feed(bench, 0, events)
    return bench


async def test_metrics_are_those_of_the_state() -> None:
    bench = await bench_after(3000)
    status = status_of(bench.applier, lambda number: 3100)
    text = exposition(samples(status, bench.applier.flow.latency, {}))
    found, site = sample_values(text), bench.partition.state.site[0]
    assert found["tidegate_events_total", ("2",)] == site["events"] > 2000
    assert found["tidegate_events_late_total", ("2",)] == site["late"]
    assert found["tidegate_records_total", ()] == 3000
    assert found["tidegate_keys", ("2",)] == bench.partition.keys
    assert found["tidegate_table_fill_ratio", ("2",)] == bench.partition.keys / len(bench.partition.state.rows)
    assert found["tidegate_consumer_lag_events", ("2",)] == 100
    throttles = sum(value for (name, _), value in found.items() if name == "tidegate_throttles_total")
    assert throttles == found["tidegate_decision_latency_seconds_count", ()] == bench.applier.flow.throttles > 0
    assert throttles + found["tidegate_releases_total", ()] == len(bench.published)
    missing = {metric.name for metric in WORKER} - {name.removesuffix("_total") for name in family_names(text)}
    assert missing == {"tidegate_standby_keys", "tidegate_notifications"}, (
        "no standbys and no notifications, so no samples of them"
    )


async def test_counters_start_at_the_takeover() -> None:
    bench = await bench_after(2000)
    shard = bench.shard
    shard.opened = bench.partition.state.site.copy()
    before = int(bench.partition.state.site["events"][0])
    await feed(bench, 2000, 3000)
    status = status_of(bench.applier, lambda number: None)
    only = status["partitions"]["2"]
    assert only["since_takeover"]["events"] == status["events"] - before > 0
    assert set(only["since_takeover"]) == set(COUNTS)
    assert only["lag"] is None
    assert "tidegate_consumer_lag_events" not in family_names(
        exposition(samples(status, bench.applier.flow.latency, {}))
    )


async def test_records_read_again_are_counted_as_duplicates() -> None:
    bench = await bench_after(500)
    await feed(bench, 0, 400)
    assert bench.applier.flow.duplicates == 400
    await feed(bench, 0, 700)
    assert (bench.applier.flow.duplicates, bench.applier.flow.records) == (900, 1200)
    assert int(bench.partition.state.site["events"][0]) + int(bench.partition.state.site["poison"][0]) == 700


async def test_lag_in_seconds_follows_the_record_timestamp() -> None:
    bench = await bench_after(100)
    shard = bench.shard
    shard.record_time_ms = int(time.time() * 1000) - 90_000
    lagging = status_of(bench.applier, lambda number: 200)["partitions"]["2"]
    assert (lagging["lag"], 90 <= lagging["lag_s"] < 120) == (100, True)
    caught_up = status_of(bench.applier, lambda number: 100)["partitions"]["2"]
    assert (caught_up["lag"], caught_up["lag_s"]) == (0, 0.0)
