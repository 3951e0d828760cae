"""How long a contender that comes back needs to have its state again, against the number of senders.

It reads a topic to its end, stops, and is started anew without anything local (Kafka Streams and Tidegate restore from
their changelogs, the plain loop from its own, Flink from its savepoint on disk, which is local and so the easiest). Measured
from its second start to its first new event; its first start, without state, is what the rest of that is. The answer over
both lives must be the right one: a contender that forgot anything would count senders twice or miss decisions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FLINK, STREAMS
from benchmarks.contest.oracle import Answer, answer
from benchmarks.contest.process import START_S, Contender, Task, complaints, started
from benchmarks.contest.rounds import ENGINE
from benchmarks.contest.sizes import Sizes
from benchmarks.harness import answers, cluster
from benchmarks.harness import contest_topics as kafka
from benchmarks.harness.cluster import Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.worker import Sample, Worker
from benchmarks.harness.workload import Chunked
from topics.contracts import CONNECTIONS

EVENTS_A_KEY, TAIL_CHUNKS = 2, 5
LIMIT_S = 180.0
RECOVERED = (STREAMS, FLINK, CONFLUENT)


@dataclass(frozen=True)
class Recovery:
    """Seconds from start to first event: ``empty_s`` without state, ``restored_s`` with that of ``keys`` senders."""

    name: str
    keys: int
    empty_s: float
    restored_s: float
    complaints: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return asdict(self)


@dataclass(frozen=True)
class Part:
    """Some of a traffic's chunks."""

    traffic: Traffic
    first: int
    behind: int | None

    def chunks(self) -> Iterator[bytes]:
        """They."""
        return islice(self.traffic.chunks(), self.first, self.behind)


@dataclass(frozen=True)
class Lives:
    """What happens before the stop and after it, with the right answers to the first and to all."""

    before: Chunked
    after: Chunked
    whole: Traffic
    right_before: Answer
    right: Answer

    @property
    def right_after(self) -> Answer:
        """What the second life alone must count, and both together must have decided."""
        counts = {name: count - self.right_before.counts[name] for name, count in self.right.counts.items()}
        return Answer(type(self.right.counts)(counts), self.right.decisions)


def lives_of(keys: int) -> Lives:
    """The events for so many senders."""
    traffic = Traffic(keys * EVENTS_A_KEY + TAIL_CHUNKS * 4096, keys)
    split = -(-traffic.events // traffic.chunk) - TAIL_CHUNKS
    before, after = Part(traffic, 0, split), Part(traffic, split, None)
    return Lives(before, after, traffic, answer(before.chunks()), answer(traffic.chunks()))


def run(chosen: Sizes, bootstrap: str, folder: Path, say: Callable[[str], None]) -> Iterator[Recovery]:
    """Every contender with every number of senders; one that breaks down is told and left out."""
    for keys in chosen.recovery_keys:
        lives = lives_of(keys)
        for name in (ENGINE, *(name for name in RECOVERED if name in chosen.peers)):
            place = Place(bootstrap, f"recovery-{time.time_ns()}-")
            cluster.make_topics(place)
            try:
                if name == ENGINE:
                    found = _engine(place, lives, folder)
                else:
                    found = _peer(BY_NAME[name].contender(), place, lives, folder)
            except Broken as error:
                say(f"{name} does not come back: {error}")
                continue
            finally:
                cluster.delete_topics(place, [CONNECTIONS.name, *cluster.OUTPUTS])
            say(
                f"{name}, {keys:,} senders: {found.restored_s:.2f} s, empty {found.empty_s:.2f} s {found.complaints or ''}"
            )
            yield found


def _peer(contender: Contender, place: Place, lives: Lives, folder: Path) -> Recovery:
    name = f"peer-{time.time_ns()}"
    waits: list[float] = []
    wrong: list[str] = []
    try:
        for part, right in ((lives.before, lives.right_before), (lives.after, lives.right_after)):
            cluster.fill(place, part, "lz4")
            task = Task(place.bootstrap, place.connections, right.counts["events"], name, folder / name)
            with started(contender, task) as running:
                told = running.wait("done", START_S + LIMIT_S)
                running.end()
            waits.append(told["first_s"] - running.started_s)
            wrong += complaints(told, kafka.decided(place.bootstrap, task.decisions), right)
    finally:
        kafka.delete(place.bootstrap, name)
    return Recovery(
        contender.name, lives.whole.keys, waits[0], waits[1], [f"{contender.name}: {each}" for each in wrong]
    )


def _engine(place: Place, lives: Lives, folder: Path) -> Recovery:
    waits: list[float] = []
    for part in (lives.before, lives.after):
        cluster.fill(place, part, "lz4")
        last = {number: end - 1 for number, end in cluster.ends(place).items()}
        with Worker(place.environment("recovery"), folder) as worker:
            waits.append(_first_block(worker).time_s - worker.started_s)
            worker.until_durable(last)
    expected = answers.replayed(place, lives.whole, folder)
    wrong = answers.differences(Counter(cluster.published(place)), Counter(expected))
    events = cluster.saved_counts(place)["events"]
    if events != lives.whole.events:
        wrong.append(f"events in the changelog: {events:,} instead of {lives.whole.events:,}")
    return Recovery(ENGINE, lives.whole.keys, waits[0], waits[1], [f"{ENGINE}: {each}" for each in wrong])


def _first_block(worker: Worker) -> Sample:
    """The first status that shows a block."""
    deadline_s = time.monotonic() + LIMIT_S
    while (found := worker.sample()) is None or not found.blocks:
        if time.monotonic() > deadline_s:
            raise Broken(f"the worker reads nothing within {LIMIT_S:.0f} s")
        time.sleep(0.01)
    return found
