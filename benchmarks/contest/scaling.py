"""One worker, two, four: the same topic read by as many as there are cores, by turns, every answer checked.

A broker of its own, whose groups wait three seconds for members (Kafka's default; the embedded broker's is none), so that
workers which start together share the partitions from the first event on. With a standby every worker also reads the
changelog of partitions that aren't its own. Broker and workers have the machine's cores between them: what the rate can't
show on few cores, processor seconds an event do; that several workers need no more of them than one is what
`tidegate plan` builds on.

Timed from the last status of all without a block to the first with every event applied, and on as long as a checkpoint is at
work, as for one worker (`engine_worker.py`).
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.rounds import Ground, forget, prepare
from benchmarks.contest.sizes import Sizes
from benchmarks.harness import answers, cluster
from benchmarks.harness.cluster import PARTITIONS
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import LOOK_S, STALL_S, START_TIMEOUT_S, Sample, Worker, checkpoints_after, covered_s
from engine.broker import EmbeddedBroker

GROUPS_WAIT_MS = 3_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scaling:
    """One run of so many ``workers``; ``standbys`` of each partition; ``rss_most_mb``, ``shares`` (events read): of each."""

    workers: int
    standbys: int
    events: int
    events_per_s: float
    cpu_s_per_million: float
    rss_most_mb: list[float]
    shares: list[int]
    complaints: list[str]

    @property
    def kind(self) -> tuple[int, int]:
        """What runs of one sort have in common."""
        return self.workers, self.standbys

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return asdict(self)


def kinds(cores: int) -> list[tuple[int, int]]:
    """Workers and standbys: one worker, then two, four … up to the cores there are, each without standbys and with one."""
    several = [1 << power for power in range(1, PARTITIONS.bit_length()) if 1 << power <= min(cores, PARTITIONS)]
    return [(1, 0), *((workers, standbys) for workers in several for standbys in (0, 1))]


def run(chosen: Sizes, folder: Path, say: Say) -> Iterator[Scaling]:
    """Every kind in turn, round after round."""
    settings = {"group.initial.rebalance.delay.ms": str(GROUPS_WAIT_MS)}
    with EmbeddedBroker(folder / "broker-scaling", settings=settings) as broker:
        ground = prepare(chosen.scaled(), broker.bootstrap, f"scaling-{time.time_ns()}-", folder)
        for number in range(1, chosen.rounds + 1):
            for workers, standbys in kinds(os.cpu_count() or 1):
                found = _one(ground, workers, standbys, folder)
                say(
                    f"{workers} workers, {standbys} standbys {number}: {found.events_per_s:,.0f}/s, "
                    f"{found.cpu_s_per_million:.2f} CPU s/M {found.complaints or 'right'}"
                )
                yield found
        forget(ground)


def _one(ground: Ground, workers: int, standbys: int, folder: Path) -> Scaling:
    place = ground.place
    cluster.empty_outputs(place)
    last = {number: end - 1 for number, end in cluster.ends(place).items()}
    environment = place.environment(f"scaling-{time.time_ns()}", TIDEGATE_WORKER_STANDBY_REPLICAS=str(standbys))
    with ExitStack() as running:
        fleet = []
        for number in range(workers):
            own = folder / f"worker-{number}"
            own.mkdir(exist_ok=True)
            fleet.append(running.enter_context(Worker(environment, own)))
        seen = _watch(fleet, last)
    found = figures(seen, last, standbys)
    wrong = _complaints(seen, ground)
    return Scaling(**found, complaints=[f"{workers} workers, {standbys} standbys: {each}" for each in wrong])


def _watch(fleet: Sequence[Worker], last: Mapping[int, int]) -> list[list[Sample]]:
    """Every status of each worker, from its last without a block to the first moment with each partition durable at one of
    them."""
    seen: list[list[Sample]] = [[] for _ in fleet]
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not durable(seen, last):
        for worker, samples in zip(fleet, seen, strict=True):
            found = worker.sample()
            if found is None or (samples and samples[-1].time_s == found.time_s):
                continue
            if samples and found.status["partitions"] != samples[-1].status["partitions"]:
                deadline_s = time.monotonic() + STALL_S
            if not found.blocks:
                samples.clear()
            samples.append(found)
        if time.monotonic() > deadline_s:
            raise Broken(f"{len(fleet)} workers get no further")
        time.sleep(LOOK_S)
    return seen


def owned(samples: Sequence[Sample], last: Mapping[int, int]) -> dict[int, int]:
    """The last offsets of the partitions that a worker has in the end."""
    return {number: offset for number, offset in last.items() if str(number) in samples[-1].status["partitions"]}


def durable(seen: Sequence[Sequence[Sample]], last: Mapping[int, int]) -> bool:
    """Whether all is durable: each partition has one owner, who has saved it up to its end."""
    if not all(seen):
        return False
    mine = [owned(samples, last) for samples in seen]
    return sorted(number for each in mine for number in each) == sorted(last) and all(
        samples[-1].reached("durable", each) for samples, each in zip(seen, mine, strict=True)
    )


def figures(seen: Sequence[list[Sample]], last: Mapping[int, int], standbys: int) -> dict[str, Any]:
    """Rate, cost and memory of a run. `Broken` if a worker had no part in it."""
    shares = [samples[-1].records for samples in seen]
    if not all(shares) or any(samples[0].blocks for samples in seen):
        raise Broken(f"{len(seen)} workers did not share the topic from its beginning: {shares} events each")
    begin_s = min(samples[0].time_s for samples in seen)
    spans, applied_s = [], begin_s
    for samples in seen:
        mine = owned(samples, last)
        applied = next(sample for sample in samples if sample.reached("applied", mine))
        spans += checkpoints_after(samples, applied, mine)
        applied_s = max(applied_s, applied.time_s)
    saving_s = covered_s((max(begin, applied_s), end) for begin, end in spans if end > applied_s)
    events = sum(shares)
    cpu_s = sum(samples[-1].cpu_s - samples[0].cpu_s for samples in seen)
    return {
        "workers": len(seen),
        "standbys": standbys,
        "events": events,
        "events_per_s": events / (applied_s - begin_s + saving_s),
        "cpu_s_per_million": cpu_s / events * 1e6,
        "rss_most_mb": [samples[-1].status["since_start"]["rss_most_kb"] / 1024 for samples in seen],
        "shares": shares,
    }


def _complaints(seen: Sequence[Sequence[Sample]], ground: Ground) -> list[str]:
    """What is wrong with what all workers together have counted and decided."""
    statuses, events = [samples[-1].status for samples in seen], ground.traffic.events
    since = [status["since_start"] for status in statuses]
    saved = cluster.saved_counts(ground.place)
    counts = {
        "events counted": sum(status["events"] for status in statuses),
        "events read once": sum(each["records"] - each["duplicates"] for each in since),
        "events in the changelog": saved["events"],
    }
    found = [f"{name}: {count:,} instead of {events:,}" for name, count in counts.items() if count != events]
    keys = sum(status["keys"] for status in statuses)
    if saved["keys"] != keys:
        found.append(f"keys in the changelog: {saved['keys']:,} instead of {keys:,}")
    return found + answers.differences(Counter(cluster.published(ground.place)), Counter(ground.replayed))


def by_kind(scaled: Sequence[Scaling]) -> dict[tuple[int, int], list[Scaling]]:
    """The runs of each kind, in order."""
    found: dict[tuple[int, int], list[Scaling]] = {}
    for each in scaled:
        found.setdefault(each.kind, []).append(each)
    return found


def times_one(scaled: Sequence[Scaling], kind: tuple[int, int], figure: str) -> list[float]:
    """A kind's figure to that of one worker, round by round."""
    found = by_kind(scaled)
    pairs = zip(found.get(kind, ()), found.get((1, 0), ()), strict=False)
    return [getattr(several, figure) / getattr(one, figure) for several, one in pairs]


def told(scaled: Sequence[Scaling]) -> dict[str, float]:
    """For the last line: rate and cost of several workers to one's, without standbys and with."""
    names = {
        (workers, standbys): f"{workers}_workers{'_with_standbys' * standbys}" for workers, standbys in by_kind(scaled)
    }
    return {
        f"{what}_{name}": round(statistics.median(times_one(scaled, kind, figure)), 3)
        for kind, name in names.items()
        if kind != (1, 0)
        for what, figure in (("ratio", "events_per_s"), ("cpu_ratio", "cpu_s_per_million"))
    }
