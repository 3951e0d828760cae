"""Several workers: one, two, four read the same topic in turn, up to one per core; every answer is checked.

The broker is one of its own, whose groups wait three seconds for members (Kafka's default; the embedded broker doesn't
wait), so that workers which start together share the partitions from the first event on. With a standby every worker also
reads the changelog of the others' partitions. Broker and workers share the machine's cores, so on few cores the rate shows
little and CPU seconds per event show more. `tidegate plan` assumes that several workers need no more of them than one.

A run is timed as that of one worker (`benchmarks.harness.worker`), from the last status of all without a block.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.rounds import FilledCase, prepare
from benchmarks.contest.sizes import Sizes
from benchmarks.harness import answers, topic_space
from benchmarks.harness.command import log_progress
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import PARTITIONS
from benchmarks.harness.worker import Sample, Worker, checkpoints_after, covered_s, watch
from engine.broker import EmbeddedBroker

GROUPS_WAIT_MS = 3_000


@dataclass(frozen=True)
class Scaling:
    """One run of several workers."""

    workers: int
    standbys: int  # of each partition
    events: int
    events_per_s: float
    cpu_s_per_million: float
    rss_most_mb: list[float]  # of each worker
    shares: list[int]  # events read by each worker
    complaints: list[str]

    @property
    def kind(self) -> tuple[int, int]:
        """Return workers and standbys."""
        return self.workers, self.standbys


def kinds(cores: int) -> list[tuple[int, int]]:
    """Return workers and standbys: one worker, then two, four, up to the cores, each without standbys and with one."""
    several = [1 << power for power in range(1, PARTITIONS.bit_length()) if 1 << power <= min(cores, PARTITIONS)]
    return [(1, 0), *((workers, standbys) for workers in several for standbys in (0, 1))]


def run(chosen: Sizes, folder: Path) -> Iterator[Scaling]:
    """Measure every kind in turn, round after round."""
    settings = {"group.initial.rebalance.delay.ms": str(GROUPS_WAIT_MS)}
    with EmbeddedBroker(folder / "broker-scaling", settings=settings) as broker:
        filled = prepare(chosen.scaled(), broker.bootstrap, folder)
        for number in range(1, chosen.rounds + 1):
            for workers, standbys in kinds(os.cpu_count() or 1):
                found = _measure(filled, workers, standbys, folder)
                cost = f"{found.events_per_s:,.0f}/s, {found.cpu_s_per_million:.2f} CPU s/M"
                log_progress(f"{workers} workers, {standbys} standbys {number}: {cost} {found.complaints or 'right'}")
                yield found


def _measure(filled: FilledCase, workers: int, standbys: int, folder: Path) -> Scaling:
    space = filled.space
    topic_space.empty_outputs(space)
    last = topic_space.last_offsets(space)
    environment = space.environment(f"scaling-{time.time_ns()}", TIDEGATE_WORKER_STANDBY_REPLICAS=str(standbys))
    with ExitStack() as running:
        started = []
        for number in range(workers):
            own = folder / f"worker-{number}"
            own.mkdir(exist_ok=True)
            started.append(running.enter_context(Worker(environment, own)))
        seen = watch(started, lambda seen: is_durable(seen, last))
    wrong = [f"{workers} workers, {standbys} standbys: {each}" for each in _complaints(seen, filled)]
    return Scaling(workers, standbys, **figures(seen, last), complaints=wrong)


def owned(samples: Sequence[Sample], last: Mapping[int, int]) -> dict[int, int]:
    """Return the last offsets of the partitions that a worker owns in the end."""
    return {number: offset for number, offset in last.items() if str(number) in samples[-1].status["partitions"]}


def is_durable(seen: Sequence[Sequence[Sample]], last: Mapping[int, int]) -> bool:
    """Return True if each partition has one owner, which has saved it up to its end."""
    mine = [owned(samples, last) for samples in seen]
    return sorted(number for each in mine for number in each) == sorted(last) and all(
        samples[-1].has_reached("durable", each) for samples, each in zip(seen, mine, strict=True)
    )


def figures(seen: Sequence[list[Sample]], last: Mapping[int, int]) -> dict[str, Any]:
    """Return rate, cost and memory of a run; `Broken` if a worker had no part in it."""
    shares = [samples[-1].records for samples in seen]
    if not all(shares) or any(samples[0].blocks for samples in seen):
        raise Broken(f"{len(seen)} workers did not share the topic from its beginning: {shares} events each")
    begin_s = min(samples[0].time_s for samples in seen)
    spans, applied_s = [], begin_s
    for samples in seen:
        mine = owned(samples, last)
        applied = next(sample for sample in samples if sample.has_reached("applied", mine))
        spans += checkpoints_after(samples, applied, mine)
        applied_s = max(applied_s, applied.time_s)
    saving_s = covered_s((max(begin, applied_s), end) for begin, end in spans if end > applied_s)
    events = sum(shares)
    cpu_s = sum(samples[-1].cpu_s - samples[0].cpu_s for samples in seen)
    return {
        "events": events,
        "events_per_s": events / (applied_s - begin_s + saving_s),
        "cpu_s_per_million": cpu_s / events * 1e6,
        "rss_most_mb": [samples[-1].status["since_start"]["rss_most_kb"] / 1024 for samples in seen],
        "shares": shares,
    }


def _complaints(seen: Sequence[Sequence[Sample]], filled: FilledCase) -> list[str]:
    """Return what is wrong with the counts and decisions of all workers together."""
    statuses, events = [samples[-1].status for samples in seen], filled.traffic.events
    since = [status["since_start"] for status in statuses]
    saved = topic_space.saved_counts(filled.space)
    counts = {
        "events counted": sum(status["events"] for status in statuses),
        "events read once": sum(each["records"] - each["duplicates"] for each in since),
        "events in the changelog": saved["events"],
    }
    found = [f"{name}: {count:,} instead of {events:,}" for name, count in counts.items() if count != events]
    keys = sum(status["keys"] for status in statuses)
    if saved["keys"] != keys:
        found.append(f"keys in the changelog: {saved['keys']:,} instead of {keys:,}")
    return found + answers.differences(Counter(topic_space.published(filled.space)), Counter(filled.replayed))


def by_kind(scaled: Sequence[Scaling]) -> dict[tuple[int, int], list[Scaling]]:
    """Return the runs of each kind, in order."""
    found: dict[tuple[int, int], list[Scaling]] = {}
    for each in scaled:
        found.setdefault(each.kind, []).append(each)
    return found


def times_one(scaled: Sequence[Scaling], kind: tuple[int, int], figure: str) -> list[float]:
    """Return a kind's figure relative to that of one worker, round by round."""
    found = by_kind(scaled)
    pairs = zip(found.get(kind, ()), found.get((1, 0), ()), strict=False)
    return [getattr(several, figure) / getattr(one, figure) for several, one in pairs]


def scaling_figures(scaled: Sequence[Scaling]) -> dict[str, float]:
    """Return figures for the last line: rate and cost of several workers relative to one, without standbys and with."""
    names = {
        (workers, standbys): f"{workers}_workers{'_with_standbys' * standbys}" for workers, standbys in by_kind(scaled)
    }
    return {
        f"{what}_{name}": round(statistics.median(times_one(scaled, kind, figure)), 3)
        for kind, name in names.items()
        if kind != (1, 0)
        for what, figure in (("ratio", "events_per_s"), ("cpu_ratio", "cpu_s_per_million"))
    }
