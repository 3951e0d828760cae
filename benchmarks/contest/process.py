"""A contender as a process: started on a topic, awaited, its counts and decisions compared with the right answer.

CPU seconds are its own from its first event to its last. Peak memory is the kernel's figure for the process.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.contest.oracle import COUNTS, Answer, Decided
from benchmarks.harness.errors import Broken
from benchmarks.harness.results import ROOT
from benchmarks.harness.topic_space import clean_environment, create_topic, delete_prefixed, records_of
from benchmarks.harness.worker import LifelineProcess

STOP_S, POLL_S = 5.0, 0.05
START_S = 120.0
CHECKPOINT_MS = 5_000  # the engine's own default
THREADS = 2


@dataclass(frozen=True)
class Contender:
    """A program that takes part."""

    name: str  # in tables
    command: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """The events that a contender reads."""

    bootstrap: str
    topic: str
    events: int
    group: str  # its name on the broker; the names of its other topics begin with it
    folder: Path

    @property
    def decisions(self) -> str:
        """Return the topic of its decisions."""
        return f"{self.group}-decisions"

    def arguments(self) -> list[str]:
        """Return the command line that all contenders share."""
        options = {
            "bootstrap": self.bootstrap, "topic": self.topic, "decisions": self.decisions, "group": self.group,
            "events": self.events, "folder": self.folder, "checkpoint-ms": CHECKPOINT_MS, "threads": THREADS,
        }  # fmt: skip
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Run:
    """The figures of one run."""

    events: int
    events_per_s: float
    warm_events_per_s: float | None  # of the second half of the events
    cpu_s_per_million: float
    rss_most_mb: float
    start_s: float  # from its start to its first event
    complaints: list[str]


class ContenderProcess(LifelineProcess):
    """A contender at work on a task. The `with` block of `started` ends it."""

    def __init__(self, contender: Contender, task: Task) -> None:
        task.folder.mkdir(parents=True, exist_ok=True)
        self.name = contender.name
        environment = clean_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [*contender.command, *task.arguments()]
        super().__init__(command, environment, task.folder / "contender.log", STOP_S)

    def message(self, state: str) -> dict[str, Any] | None:
        """Return what it has reported with this state, None if nothing yet."""
        for line in self.log_lines():
            if line.startswith('{"contest"'):
                message: dict[str, Any] = json.loads(line)
                if message["contest"] == state:
                    return message
        return None

    def wait(self, state: str, limit_s: float) -> dict[str, Any]:
        """Wait until it reports the state; `Broken` if it ends before, or after the limit."""
        deadline_s = time.monotonic() + limit_s
        while (message := self.message(state)) is None:
            if self.lifeline.poll() is not None and self.message(state) is None:
                raise Broken(f"{self.name} ended before it was {state}: {self.last_line()}")
            if time.monotonic() > deadline_s:
                raise Broken(f"{self.name} was not {state} within {limit_s:.0f} s: {self.last_line()}")
            time.sleep(POLL_S)
        return message


@contextmanager
def started(contender: Contender, task: Task) -> Iterator[ContenderProcess]:
    """Run the contender as long as the block lasts; its decisions topic is created before."""
    create_topic(task.bootstrap, task.decisions)
    process = ContenderProcess(contender, task)
    try:
        yield process
    finally:
        process.end()


def measure(contender: Contender, task: Task, right: Answer, limit_s: float) -> Run:
    """Run it over the whole of its task, compare its answer, and delete its topics."""
    try:
        with started(contender, task) as process:
            done = process.wait("done", START_S + limit_s)
            usage = process.end()
        wrong = complaints(done, decided(task), right)
    finally:
        delete_prefixed(task.bootstrap, task.group)
    assert usage is not None, "no other caller waits for its end"
    seconds, half_s = done["last_s"] - done["first_s"], done["last_s"] - done["half_s"]
    events = done["events"]
    return Run(
        events=events,
        events_per_s=events / max(seconds, 1e-3),
        warm_events_per_s=(events - events // 2) / max(half_s, 1e-3),
        cpu_s_per_million=done["cpu_s"] / events * 1e6,
        rss_most_mb=usage.ru_maxrss / 1024,
        start_s=done["first_s"] - process.started_s,
        complaints=wrong,
    )


def decided(task: Task) -> Counter[Decided]:
    """Return every decision that a contender has published."""
    return Counter(Decided(**orjson.loads(record.value)) for record in records_of(task.bootstrap, task.decisions))


def complaints(counts: Mapping[str, Any], decisions: Counter[Decided], right: Answer) -> list[str]:
    """Return what is wrong with counts and decisions, one line each."""
    wrong = [name for name in COUNTS if counts[name] != right.counts[name]]
    found = [f"{name}: {counts[name]:,} instead of {right.counts[name]:,}" for name in wrong]
    missing, extra = right.decisions - decisions, decisions - right.decisions
    if missing or extra:
        found.append(f"{missing.total():,} decisions are missing, {extra.total():,} are wrong or repeated")
    return found
