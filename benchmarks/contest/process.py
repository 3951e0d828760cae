"""A contender as a process: started on a topic, waited for, its counts and decisions compared with the right answer.

It runs on the embedded broker's lifeline: however the benchmark ends, SIGKILL included, the contender ends too. Processor
seconds are its own from its first event to its last; ``whole_cpu_s_per_million`` has its start and end as well (a Java
that compiles itself, for example); peak memory is the kernel's figure for the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.oracle import COUNTS, Answer
from benchmarks.harness import contest_topics as kafka
from benchmarks.harness.cluster import KEPT_VARIABLES
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import LIFELINE

ROOT = Path(__file__).resolve().parents[2]
STOP_S, LOOK_S = 5.0, 0.05
START_S = 120.0
CHECKPOINT_MS = 5_000  # the engine's own default


@dataclass(frozen=True)
class Contender:
    """Who runs: its name in tables and its command."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What a contender is to read: ``events`` of the topic; ``group``: its own name on the broker, of which it makes others."""

    bootstrap: str
    topic: str
    events: int
    group: str
    folder: Path

    @property
    def decisions(self) -> str:
        """The topic that its decisions go to."""
        return f"{self.group}-decisions"

    def arguments(self, threads: int) -> list[str]:
        """The contenders' common command line."""
        told = {
            "bootstrap": self.bootstrap, "topic": self.topic, "decisions": self.decisions, "group": self.group,
            "events": self.events, "folder": self.folder, "checkpoint-ms": CHECKPOINT_MS, "threads": threads,
        }  # fmt: skip
        return [word for name, value in told.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Run:
    """One run. ``warm_events_per_s``: of the second half of the events; ``start_s``: from its start to its first event."""

    events: int
    events_per_s: float
    warm_events_per_s: float | None
    seconds: float
    cpu_s_per_million: float
    whole_cpu_s_per_million: float | None
    rss_most_mb: float
    start_s: float
    complaints: list[str]


class Running:
    """A contender at work on a task; the `with` block that `started` gives ends it."""

    def __init__(self, contender: Contender, task: Task, threads: int) -> None:
        task.folder.mkdir(parents=True, exist_ok=True)
        self.task, self.name = task, contender.name
        self._log = task.folder / "contender.log"
        self.started_s = time.time()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LIFELINE), str(STOP_S), *contender.command, *task.arguments(threads)],
                cwd=task.folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def said(self, word: str) -> dict[str, Any] | None:
        """What it has said under that word; None if nothing yet."""
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith('{"contest"'):
                told: dict[str, Any] = json.loads(line)
                if told["contest"] == word:
                    return told
        return None

    def wait(self, word: str, limit_s: float) -> dict[str, Any]:
        """Wait until it says the word; `Broken` if it ends before, or doesn't within the limit."""
        deadline_s = time.monotonic() + limit_s
        while (told := self.said(word)) is None:
            if self._process.poll() is not None and self.said(word) is None:
                raise Broken(f"{self.name} ended before it was {word}: {self._complaint()}")
            if time.monotonic() > deadline_s:
                raise Broken(f"{self.name} was not {word} within {limit_s:.0f} s: {self._complaint()}")
            time.sleep(LOOK_S)
        return told

    def end(self) -> resource.struct_rusage | None:
        """Wait for its end, and make sure of it; what it has used, if that can be known."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        usage = None
        if self._process.returncode is None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
        self._process.stdout.close()
        return usage

    def _complaint(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def environment() -> Mapping[str, str]:
    """For contenders: without this project's options, with its folder to import from."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return inherited | kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextmanager
def started(contender: Contender, task: Task, threads: int = 2) -> Iterator[Running]:
    """The contender at work, its topics made before and deleted after."""
    kafka.create(task.bootstrap, task.decisions)
    running = Running(contender, task, threads)
    try:
        yield running
    finally:
        running.end()


def measure(contender: Contender, task: Task, right: Answer, limit_s: float, threads: int = 2) -> Run:
    """Run it over the whole of its task, compare its answer, forget what it left on the broker."""
    try:
        with started(contender, task, threads) as running:
            told = running.wait("done", START_S + limit_s)
            usage = running.end()
        wrong = complaints(told, kafka.decided(task.bootstrap, task.decisions), right)
    finally:
        kafka.delete(task.bootstrap, task.group)
    assert usage is not None, "its end is waited for here alone"
    seconds, half_s = told["last_s"] - told["first_s"], told["last_s"] - told["half_s"]
    events = told["events"]
    return Run(
        events=events,
        events_per_s=events / max(seconds, 1e-3),
        warm_events_per_s=(events - events // 2) / max(half_s, 1e-3),
        seconds=seconds,
        cpu_s_per_million=told["cpu_s"] / events * 1e6,
        whole_cpu_s_per_million=(usage.ru_utime + usage.ru_stime) / events * 1e6,
        rss_most_mb=usage.ru_maxrss / 1024,
        start_s=told["first_s"] - running.started_s,
        complaints=wrong,
    )


def complaints(told: Mapping[str, Any], decided: Mapping[Any, int], right: Answer) -> list[str]:
    """What is wrong with counts and decisions, a line each."""
    found = [
        f"{name}: {told[name]:,} instead of {right.counts[name]:,}"
        for name in COUNTS
        if told[name] != right.counts[name]
    ]
    missing, extra = right.decisions - decided, decided - right.decisions  # type: ignore[operator]
    if missing or extra:
        found.append(f"{missing.total():,} decisions are missing, {extra.total():,} are wrong or there twice")
    return found
