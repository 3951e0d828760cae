"""The contest's open load: the sustainable rate of each contender, its latency at 70 % of it, and its catching up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import openload
from benchmarks.contest.contenders import BY_NAME
from benchmarks.contest.openload import Latency, Level, LoadedContender, Start, SteadyLoad
from benchmarks.contest.process import START_S, Contender, Task, started
from benchmarks.contest.rounds import ENGINE
from benchmarks.contest.sizes import Sizes
from benchmarks.harness import topic_space
from benchmarks.harness.command import log_progress
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import PARTITIONS, TopicSpace
from benchmarks.harness.worker import Worker
from topics.contracts import DECISIONS

REGULARS = 500_000
CATCH_UP_S = 40.0
STEP = 100  # events per second: one per tick
SHARE_FOR_LATENCY, SHARE_FOR_BACKLOG = 0.7, 0.5  # of the sustainable rate
UNLIMITED_EVENTS = 1 << 60
SETTLE_S = 1.0  # from a contender's report that it is ready to its first fetch


@dataclass(frozen=True)
class Opened:
    """One contender's figures."""

    name: str
    levels: list[Level]
    sustainable: int
    latency: Latency | None
    catch_up_s: float | None  # None if it didn't catch up within the time
    complaints: list[str]


def rates(chosen: Sizes) -> list[int]:
    """Return the rates of the rising load's levels."""
    found = [chosen.first_rate]
    while found[-1] * chosen.rise <= chosen.last_rate:
        found.append(round(found[-1] * chosen.rise) // STEP * STEP)
    return found


def run(chosen: Sizes, bootstrap: str, folder: Path) -> Iterator[Opened]:
    """Measure each contender in turn; one that breaks down is left out."""
    for name in (ENGINE, *chosen.open_peers):
        try:
            start = engine_start(folder) if name == ENGINE else peer_start(BY_NAME[name].contender(), folder)
            yield _measure(name, start, chosen, bootstrap)
        except Broken as error:
            if name == ENGINE:
                raise
            log_progress(f"{name} broke down under open load: {error}")
            yield Opened(name, [], 0, None, None, [])


def _measure(name: str, start: Start, chosen: Sizes, bootstrap: str) -> Opened:
    with empty_space(bootstrap) as space:
        levels = openload.climb(start, space, rates(chosen), chosen.level_s, REGULARS)
    most = openload.sustainable(levels)
    log_progress(f"{name}: sustains {most:,} events/s; then {levels[-1]}")
    rate = most or chosen.first_rate
    steady = SteadyLoad(int(rate * SHARE_FOR_LATENCY) // STEP * STEP, chosen.latency_s, REGULARS)
    with empty_space(bootstrap) as space:
        latency = openload.latency(start, space, steady)
    percentiles = f"p50 {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f} ms"
    log_progress(f"{name}: at {steady.rate:,} events/s {percentiles} {latency.complaints or ''}")
    backlog = SteadyLoad(int(rate * SHARE_FOR_BACKLOG) // STEP * STEP, chosen.backlog_s + CATCH_UP_S, REGULARS)
    with empty_space(bootstrap) as space:
        caught_s = openload.catch_up(start, space, backlog, chosen.backlog_s)
    log_progress(f"{name}: works off {chosen.backlog_s:.0f} s of {backlog.rate:,} events/s in {caught_s} s")
    return Opened(name, levels, most, latency, caught_s, [f"{name}: {each}" for each in latency.complaints])


@contextmanager
def empty_space(bootstrap: str) -> Iterator[TopicSpace]:
    """Create empty topics, and delete them afterwards."""
    space = TopicSpace(bootstrap, f"open-{time.time_ns()}-")
    topic_space.make_topics(space)
    try:
        yield space
    finally:
        topic_space.delete_all(space)


def engine_start(folder: Path) -> Start:
    """Return how to start Tidegate's worker."""

    @contextmanager
    def start(space: TopicSpace) -> Iterator[LoadedContender]:
        with Worker(space.environment("open"), folder) as worker:
            worker.wait_ready(PARTITIONS)
            yield LoadedContender(space, space.prefix + DECISIONS.name, DECISIONS.partitions)

    return start


def peer_start(contender: Contender, folder: Path) -> Start:
    """Return how to start another contender."""

    @contextmanager
    def start(space: TopicSpace) -> Iterator[LoadedContender]:
        name = f"peer-{time.time_ns()}"
        task = Task(space.bootstrap, space.connections, UNLIMITED_EVENTS, name, folder / name)
        try:
            with started(contender, task) as process:
                process.wait("ready", START_S)
                time.sleep(SETTLE_S)
                yield LoadedContender(space, task.decisions, PARTITIONS)
        finally:
            topic_space.delete_prefixed(space.bootstrap, name)

    return start
