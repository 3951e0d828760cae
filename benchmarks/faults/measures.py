"""The time and cost of recovery: rows restored per second, seconds to a takeover, throughput with checkpoints and without.

The worker itself times a restore, from taking a partition over to its first event. Partitions are restored at the same
time, so the rate is all rows over the slowest partition's seconds. A standby's promotion is timed in the same way, by the
worker that takes over after kill -9 of the other. A takeover is timed from outside: from the kill until the other worker
has applied all events sent before it, the session timeout included. Checkpoint cost compares runs in turn over the same
topic: with the default interval, and without checkpoints before the end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import topic_space
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import PARTITIONS, TopicSpace
from benchmarks.harness.traffic import Traffic, evening
from benchmarks.harness.worker import POLL_S, STATUS_INTERVAL_MS, Worker
from engine.broker import EmbeddedBroker
from tests.support.workers import WorkerProcess
from tests.support.workers import until as wait_until
from tests.system.faults.arena import SESSION_S, Arena, Ground, owned
from tests.system.faults.cluster import ends as topic_ends

INTERVALS = {"on": {"TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS": "2000"}, "off": {
    "TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS": "600000", "TIDEGATE_WORKER_CHECKPOINT_DIRTY_ROWS": str(1 << 27),
}}  # fmt: skip
TAKEOVER_RATE = 2_000


@dataclass(frozen=True)
class MeasureSizes:
    """The events of the measures."""

    restored: Traffic  # whose state is restored
    costed: Traffic  # of the runs with and without checkpoints
    times: int  # each is measured


WHOLE = MeasureSizes(evening(2_400_000, 1_200_000), evening(12_000_000, 200_000), 3)
SMALL = MeasureSizes(evening(20_000, 10_000), evening(40_000, 2_000), 1)


def _filled(broker: EmbeddedBroker, prefix: str, traffic: Traffic) -> TopicSpace:
    space = TopicSpace(broker.bootstrap, prefix)
    topic_space.make_topics(space)
    topic_space.fill(space, traffic)
    return space


def recovery(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Fill a changelog; start workers that restore it; kill one of two that are each other's standby."""
    space = _filled(broker, "restore-", sizes.restored)
    with Worker(space.environment(), folder) as worker:
        worker.wait_durable(topic_space.last_offsets(space))
    runs = []
    for _ in range(sizes.times):
        with Worker(space.environment(), folder) as worker:
            status = worker.wait_ready(PARTITIONS).status
        runs.append({"keys": status["keys"], **_restore_times(status["partitions"].values())})
    promotions = [_promotion(space, folder / f"promotion-{number}") for number in range(sizes.times)]
    return {
        "runs": runs,
        "rows_per_s": statistics.median(run["rows"] / run["slowest_s"] for run in runs),
        "promotions": promotions,
        "promotion_s": statistics.median(run["slowest_s"] for run in promotions),
    }


def _promotion(space: TopicSpace, folder: Path) -> dict[str, float]:
    """Kill one of two workers once the other's standbys are complete; return the times of the takeover."""
    env = space.environment(TIDEGATE_WORKER_STATUS_INTERVAL_MS=str(STATUS_INTERVAL_MS))
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
    with WorkerProcess(env, folder / "one") as one, WorkerProcess(env, folder / "two") as two:

        def is_complete() -> bool:
            owned, followed = one.status.get("partitions", {}), two.status.get("standbys", {})
            keys = {number: shard["keys"] for number, shard in owned.items()}
            return bool(keys) and {number: each["keys"] for number, each in followed.items()} == keys

        wait_until(is_complete, "complete standbys")
        keys = {number: shard["keys"] for number, shard in one.status["partitions"].items()}
        one.kill()
        wait_until(lambda: len(two.status["partitions"]) == PARTITIONS, "a takeover")
        taken = {number: shard for number, shard in two.status["partitions"].items() if number in keys}
    if {number: shard["keys"] for number, shard in taken.items()} != keys:
        raise Broken(f"taken over: {taken}, with these keys before: {keys}")
    return {"keys": sum(keys.values()), **_restore_times(taken.values())}


def _restore_times(shards: Collection[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "rows": sum(shard["restored_rows"] for shard in shards),
        "slowest_s": max(shard["restore_s"] for shard in shards),
        "summed_s": sum(shard["restore_s"] for shard in shards),
    }


def takeover(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Kill one of two workers while events flow."""
    found_s = []
    for number in range(sizes.times):
        own = folder / f"takeover-{number}"
        own.mkdir()
        with Arena(broker, own, f"takeover-{number}-", Ground(events=100_000)) as arena:
            found_s.append(_takeover_s(arena))
            verdict = arena.judge()
        if not verdict.good:
            raise Broken(f"after a takeover: {verdict}")
    return {"seconds": found_s, "session_timeout_s": SESSION_S, "median_s": statistics.median(found_s)}


def _takeover_s(arena: Arena) -> float:
    """Return the seconds from the kill until the other worker has applied all events sent before it."""
    one, two = arena.start("one"), arena.start("two")
    arena.until(lambda: owned(one) > 0 and owned(two) > 0, "two workers")
    with arena.flow(TAKEOVER_RATE):
        time.sleep(1)
        begun_s = time.monotonic()
        arena.kill(one)
        sent = topic_ends(arena.space.bootstrap, arena.space.connections, PARTITIONS)
        while any(arena.shown(number, "applied") < end - 1 for number, end in sent.items()):
            if time.monotonic() - begun_s > 60:
                raise Broken("no worker took the dead worker's partitions over")
            time.sleep(POLL_S)
        return time.monotonic() - begun_s


def checkpoint_cost(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Run over the same events with checkpoints and without, in turn."""
    space = _filled(broker, "cost-", sizes.costed)
    last = topic_space.last_offsets(space)
    rates: dict[str, list[float]] = {name: [] for name in INTERVALS}
    checkpoints = []
    for number in range(sizes.times):
        for name in sorted(INTERVALS, reverse=bool(number % 2)):
            topic_space.empty_outputs(space)
            env = space.environment(f"cost-{name}-{number}", **INTERVALS[name])
            with Worker(env, folder) as worker:
                samples = worker.wait_until(lambda sample: sample.has_reached("applied", last))
            first, end = samples[0], samples[-1]
            rates[name].append(end.records / (end.time_s - first.time_s))
            if name == "on":
                checkpoints.append(sum(shard["checkpoints"] for shard in end.status["partitions"].values()))
    on, off = (statistics.median(rates[name]) for name in ("on", "off"))
    return {"events_per_s": rates, "checkpoints": checkpoints, "share": 1 - on / off}
