"""The time until a restarted contender has its state again, by the number of senders.

A contender reads a topic to its end, stops, and is started again without local state: Kafka Streams and Tidegate restore
from their changelogs, the plain loop from its own, Flink from its savepoint on local disk, the easiest case. Time runs from
the second start to the first new event; the first start, without state, is measured too. The answer over both runs must be
right: a contender that had lost state would count senders twice or miss decisions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.contest.contenders import BY_NAME, CONFLUENT, FLINK, STREAMS
from benchmarks.contest.oracle import Answer, answer
from benchmarks.contest.process import START_S, Contender, Task, complaints, decided, started
from benchmarks.contest.rounds import ENGINE
from benchmarks.contest.sizes import Sizes
from benchmarks.harness import answers, topic_space
from benchmarks.harness.command import log_progress
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import TopicSpace
from benchmarks.harness.traffic import Traffic
from benchmarks.harness.worker import Worker

EVENTS_A_KEY, TAIL_CHUNKS = 2, 5
LIMIT_S = 180.0
RECOVERED = (STREAMS, FLINK, CONFLUENT)


@dataclass(frozen=True)
class Recovery:
    """One contender's times with one number of senders."""

    name: str
    keys: int
    empty_s: float  # from start to first event, without state
    restored_s: float  # the same with the state of `keys` senders
    complaints: list[str]


class SomeChunks(NamedTuple):
    """Some of a traffic's chunks."""

    traffic: Traffic
    first: int
    end: int | None

    def chunks(self) -> Iterator[bytes]:
        """Return them."""
        return islice(self.traffic.chunks(), self.first, self.end)


class TwoRuns(NamedTuple):
    """The events before the stop and after it."""

    before: SomeChunks
    after: SomeChunks
    whole: Traffic
    right_before: Answer
    right_after: Answer  # counts of the second run alone, decisions of both together


def two_runs(keys: int) -> TwoRuns:
    """Return the events for so many senders."""
    traffic = Traffic(keys * EVENTS_A_KEY + TAIL_CHUNKS * 4096, keys)
    split = -(-traffic.events // traffic.chunk) - TAIL_CHUNKS
    before, after = SomeChunks(traffic, 0, split), SomeChunks(traffic, split, None)
    right_before, right = answer(before.chunks()), answer(traffic.chunks())
    counts = {name: count - right_before.counts[name] for name, count in right.counts.items()}
    return TwoRuns(before, after, traffic, right_before, Answer(Counter(counts), right.decisions))


def run(chosen: Sizes, bootstrap: str, folder: Path) -> Iterator[Recovery]:
    """Measure every contender with every number of senders; one that breaks down is left out."""
    for keys in chosen.recovery_keys:
        events = two_runs(keys)
        for name in (ENGINE, *(name for name in RECOVERED if name in chosen.peers)):
            space = TopicSpace(bootstrap, f"recovery-{time.time_ns()}-")
            topic_space.make_topics(space)
            try:
                if name == ENGINE:
                    found = _restart_engine(space, events, folder)
                else:
                    found = _restart_peer(BY_NAME[name].contender(), space, events, folder)
            except Broken as error:
                log_progress(f"{name} does not restart: {error}")
                continue
            finally:
                topic_space.delete_all(space)
            times = f"{found.restored_s:.2f} s, empty {found.empty_s:.2f} s"
            log_progress(f"{name}, {keys:,} senders: {times} {found.complaints or ''}")
            yield found


def _restart_peer(contender: Contender, space: TopicSpace, events: TwoRuns, folder: Path) -> Recovery:
    name = f"peer-{time.time_ns()}"
    waits_s: list[float] = []
    wrong: list[str] = []
    try:
        for part, right in ((events.before, events.right_before), (events.after, events.right_after)):
            topic_space.fill(space, part)
            task = Task(space.bootstrap, space.connections, right.counts["events"], name, folder / name)
            with started(contender, task) as process:
                done = process.wait("done", START_S + LIMIT_S)
                process.end()
            waits_s.append(done["first_s"] - process.started_s)
            wrong += complaints(done, decided(task), right)
    finally:
        topic_space.delete_prefixed(space.bootstrap, name)
    wrong = [f"{contender.name}: {each}" for each in wrong]
    return Recovery(contender.name, events.whole.keys, waits_s[0], waits_s[1], wrong)


def _restart_engine(space: TopicSpace, events: TwoRuns, folder: Path) -> Recovery:
    waits_s: list[float] = []
    for part in (events.before, events.after):
        topic_space.fill(space, part)
        with Worker(space.environment("recovery"), folder) as worker:
            waits_s.append(worker.wait_until(lambda sample: sample.blocks > 0)[-1].time_s - worker.started_s)
            worker.wait_durable(topic_space.last_offsets(space))
    expected = answers.replayed(space, events.whole, folder)
    wrong = answers.differences(Counter(topic_space.published(space)), Counter(expected))
    saved = topic_space.saved_counts(space)["events"]
    if saved != events.whole.events:
        wrong.append(f"events in the changelog: {saved:,} instead of {events.whole.events:,}")
    wrong = [f"{ENGINE}: {each}" for each in wrong]
    return Recovery(ENGINE, events.whole.keys, waits_s[0], waits_s[1], wrong)
