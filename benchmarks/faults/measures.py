"""What recovery takes and costs: rows restored a second, seconds to a take-over, throughput with checkpoints and without.

Restoring is timed by the worker itself, from taking a partition over to its first event; partitions are restored at the same
time, so the rate is all rows over the slowest partition's seconds. A standby's promotion is timed in the same way, by the
worker that takes over after kill -9 of the other. A take-over is timed from outside: from the kill until the other worker has
applied all that was sent before it, the session timeout included. Checkpoint cost compares runs in turn over the same topic:
with the default cadence, and with none before the end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import cluster
from benchmarks.harness.cluster import PARTITIONS, Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import LOOK_S, START_TIMEOUT_S, STATUS_INTERVAL_MS, Sample, Worker
from benchmarks.harness.workload import Workload
from engine.broker import EmbeddedBroker
from tests.support.workers import WorkerProcess
from tests.support.workers import until as wait_until
from tests.system.faults.arena import SESSION_S, Arena, Ground, owned
from tests.system.faults.cluster import ends as topic_ends

CADENCES = {"on": {"TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS": "2000"}, "off": {
    "TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS": "600000", "TIDEGATE_WORKER_CHECKPOINT_DIRTY_ROWS": str(1 << 27),
}}  # fmt: skip
TAKEOVER_RATE = 2_000


@dataclass(frozen=True)
class MeasureSizes:
    """Events and senders of the restored state; of the runs with and without checkpoints; how often each is done."""

    restored: Workload
    costed: Workload
    times: int


WHOLE = MeasureSizes(Workload(2_400_000, 1_200_000), Workload(12_000_000, 200_000), 3)
SMALL = MeasureSizes(Workload(20_000, 10_000), Workload(40_000, 2_000), 1)


def until(worker: Worker, reached: Callable[[Sample], bool]) -> list[Sample]:
    """Every status from the last without a block to the first that has ``reached``; `Broken` when that doesn't come."""
    samples: list[Sample] = []
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not (samples and reached(samples[-1])):
        if time.monotonic() > deadline_s:
            raise Broken(f"the worker gets no further: {samples[-1].status if samples else 'no status'}")
        found = worker.sample()
        if found is not None and not (samples and samples[-1].time_s == found.time_s):
            if not found.status["since_start"]["blocks"]:
                samples.clear()
            samples.append(found)
        time.sleep(LOOK_S)
    return samples


def _last(place: Place) -> dict[int, int]:
    return {number: end - 1 for number, end in cluster.ends(place).items()}


def recovery(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Fill a changelog; start workers that read it back; kill one of two that stand by for each other."""
    place = Place(broker.bootstrap, "restore-")
    cluster.make_topics(place)
    cluster.fill(place, sizes.restored, "lz4")
    last = _last(place)
    with Worker(place.environment(), folder) as worker:
        until(worker, lambda sample: sample.reached("durable", last))
    runs = []
    for _ in range(sizes.times):
        with Worker(place.environment(), folder) as worker:
            status = worker.wait_ready(PARTITIONS).status
        runs.append(_restored(status))
    promotions = [_promotion(place, folder / f"promotion-{number}") for number in range(sizes.times)]
    return {
        "runs": runs,
        "rows_per_s": statistics.median(run["rows"] / run["slowest_s"] for run in runs),
        "promotions": promotions,
        "promotion_s": statistics.median(run["slowest_s"] for run in promotions),
    }


def _promotion(place: Place, folder: Path) -> dict[str, float]:
    """Kill one of two workers once the other's standbys have all that it has; how the partitions were taken over."""
    env = place.environment(TIDEGATE_WORKER_STATUS_INTERVAL_MS=str(STATUS_INTERVAL_MS))
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
    with WorkerProcess(env, folder / "one") as one, WorkerProcess(env, folder / "two") as two:

        def warm() -> bool:
            owned, followed = one.status.get("partitions", {}), two.status.get("standbys", {})
            keys = {number: shard["keys"] for number, shard in owned.items()}
            return bool(keys) and {number: each["keys"] for number, each in followed.items()} == keys

        wait_until(warm, "warm standbys")
        keys = {number: shard["keys"] for number, shard in one.status["partitions"].items()}
        one.kill()
        wait_until(lambda: len(two.status["partitions"]) == PARTITIONS, "a take-over")
        taken = {number: shard for number, shard in two.status["partitions"].items() if number in keys}
    if {number: shard["keys"] for number, shard in taken.items()} != keys:
        raise Broken(f"taken over: {taken}, with these keys before: {keys}")
    return {"keys": sum(keys.values()), **_times(taken.values())}


def _restored(status: Mapping[str, Any]) -> dict[str, float]:
    return {"keys": status["keys"], **_times(status["partitions"].values())}


def _times(shards: Collection[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "rows": sum(shard["restored_rows"] for shard in shards),
        "slowest_s": max(shard["restore_s"] for shard in shards),
        "summed_s": sum(shard["restore_s"] for shard in shards),
    }


def takeover(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Kill one of two workers while events flow."""
    found = []
    for number in range(sizes.times):
        place = folder / f"takeover-{number}"
        place.mkdir()
        with Arena(broker, place, f"takeover-{number}-", Ground(events=100_000)) as arena:
            found.append(_takeover(arena))
            verdict = arena.judge()
        if not verdict.good:
            raise Broken(f"after a take-over: {verdict}")
    return {"seconds": found, "session_timeout_s": SESSION_S, "median_s": statistics.median(found)}


def _takeover(arena: Arena) -> float:
    """Seconds from the kill until the other worker has applied all that was sent before it."""
    one, two = arena.start("one"), arena.start("two")
    arena.until(lambda: owned(one) > 0 and owned(two) > 0, "two workers")
    with arena.flow(TAKEOVER_RATE):
        time.sleep(1)
        begun_s = time.monotonic()
        arena.kill(one)
        sent = topic_ends(arena.place.bootstrap, arena.place.connections, PARTITIONS)
        while any(arena.shown(number, "applied") < end - 1 for number, end in sent.items()):
            if time.monotonic() - begun_s > 60:
                raise Broken("nobody took the dead worker's partitions over")
            time.sleep(LOOK_S)
        return time.monotonic() - begun_s


def checkpoint_cost(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Runs over the same events with checkpoints and without, in turn."""
    place = Place(broker.bootstrap, "cost-")
    cluster.make_topics(place)
    cluster.fill(place, sizes.costed, "lz4")
    last = _last(place)
    rates: dict[str, list[float]] = {name: [] for name in CADENCES}
    checkpoints = []
    for number in range(sizes.times):
        for name in sorted(CADENCES, reverse=bool(number % 2)):
            cluster.empty_outputs(place)
            env = place.environment(f"cost-{name}-{number}", **CADENCES[name])
            with Worker(env, folder) as worker:
                samples = until(worker, lambda sample: sample.reached("applied", last))
            first, end = samples[0], samples[-1]
            rates[name].append(end.status["since_start"]["records"] / (end.time_s - first.time_s))
            if name == "on":
                checkpoints.append(sum(shard["checkpoints"] for shard in end.status["partitions"].values()))
    on, off = (statistics.median(rates[name]) for name in ("on", "off"))
    return {"events_per_s": rates, "checkpoints": checkpoints, "share": 1 - on / off}
