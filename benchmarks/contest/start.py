"""Contenders under open load: each started on a place of its own, Tidegate's worker like the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contest.openload import Start, Watched
from benchmarks.contest.process import START_S, Contender, Task, started
from benchmarks.harness import cluster
from benchmarks.harness import contest_topics as kafka
from benchmarks.harness.cluster import PARTITIONS, Place
from benchmarks.harness.worker import Worker
from topics.contracts import CONNECTIONS, DECISIONS

WITHOUT_END = 1 << 60  # events
SETTLE_S = 1.0  # from a contender's word that it is ready to its first fetch


@contextmanager
def ground(bootstrap: str) -> Iterator[Place]:
    """A place with empty topics, deleted afterwards."""
    place = Place(bootstrap, f"open-{time.time_ns()}-")
    cluster.make_topics(place)
    try:
        yield place
    finally:
        cluster.delete_topics(place, [CONNECTIONS.name, *cluster.OUTPUTS])


def engine(folder: Path, **variables: str) -> Start:
    """Tidegate's worker; ``variables``: of its environment, besides the place's."""

    @contextmanager
    def start(place: Place) -> Iterator[Watched]:
        with Worker(place.environment("open", **variables), folder) as worker:
            worker.wait_ready(PARTITIONS)
            yield Watched(place, place.prefix + DECISIONS.name, DECISIONS.partitions)

    return start


def peer(contender: Contender, folder: Path) -> Start:
    """One of the others."""

    @contextmanager
    def start(place: Place) -> Iterator[Watched]:
        name = f"peer-{time.time_ns()}"
        task = Task(place.bootstrap, place.connections, WITHOUT_END, name, folder / name)
        try:
            with started(contender, task) as running:
                running.wait("ready", START_S)
                time.sleep(SETTLE_S)
                yield Watched(place, task.decisions, PARTITIONS)
        finally:
            kafka.delete(place.bootstrap, name)

    return start
