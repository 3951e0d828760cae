"""A `tidegate worker` as a subprocess, observed from outside: its status file, CPU time and memory.

A run is timed from the last status without a block to the first with every event applied. It goes on as long as a
checkpoint of any partition is at work; then all of it is durable. The status interval (50 ms) counts against the engine at
both ends. The time in which the worker idles until its timer starts the last checkpoint is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
import psutil

import engine.broker
from benchmarks.harness import topic_space
from benchmarks.harness.errors import Broken
from benchmarks.harness.results import ROOT
from benchmarks.harness.topic_space import TopicSpace
from engine.config import options
from engine.detector.layout import empty_state

COMMAND = (sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())")
LIFELINE = Path(engine.broker.__file__).with_name("lifeline.py")
STATUS_INTERVAL_MS = 50
POLL_S = 0.01
START_TIMEOUT_S = 180.0  # the first run on a machine compiles
STALL_S = 60.0
STOP_S = 30.0
COUNTS = ("events", "late", "poison", "throttles", "releases", "untracked", "miskeyed")


class Sample(NamedTuple):
    """A status, and the resources of the worker and its children when it was read."""

    status: dict[str, Any]
    cpu_s: float
    rss_bytes: int

    @property
    def time_s(self) -> float:
        """Return when the worker wrote the status, Unix time."""
        return float(self.status["time_ms"]) / 1000

    @property
    def blocks(self) -> int:
        """Return the blocks applied since the worker's start."""
        return int(self.status["since_start"]["blocks"])

    @property
    def records(self) -> int:
        """Return the events read since the worker's start."""
        return int(self.status["since_start"]["records"])

    def has_reached(self, column: str, last: Mapping[int, int]) -> bool:
        """Return True if each partition's ``column`` (applied, durable) has reached its last offset."""
        partitions = self.status["partitions"]
        return all(
            str(number) in partitions and partitions[str(number)][column] >= offset for number, offset in last.items()
        )

    def checkpoint_s(self, number: int) -> float:
        """Return the seconds that a partition's checkpoints have taken so far."""
        return float(self.status["partitions"].get(str(number), {}).get("checkpoint_s", 0.0))


class LifelineProcess:
    """A program on the embedded broker's lifeline: however the benchmark ends, SIGKILL included, the program ends too."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, stop_s: float) -> None:
        self.started_s, self._log = time.time(), log
        words = [sys.executable, "-I", "-S", str(LIFELINE), str(stop_s), *command]
        with log.open("wb") as file:
            self.lifeline = subprocess.Popen(
                words, cwd=log.parent, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    def end(self) -> resource.struct_rusage | None:
        """Make it end and wait for that; return its usage at the first call, then None."""
        assert self.lifeline.stdin is not None
        assert self.lifeline.stdout is not None
        usage = None
        if self.lifeline.returncode is None:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self.lifeline.stdin.close()
            _, status, usage = os.wait4(self.lifeline.pid, 0)
            self.lifeline.returncode = os.waitstatus_to_exitcode(status)
        self.lifeline.stdout.close()
        return usage

    def log_lines(self) -> list[str]:
        """Return its log."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()

    def last_line(self) -> str:
        """Return the last line of its log."""
        lines = self.log_lines()
        return lines[-1][:300] if lines else "its log is empty"


class Worker:
    """A worker that runs as long as a `with` block, its status file and log in ``folder``."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = {**environment, "TIDEGATE_WORKER_STATUS_INTERVAL_MS": str(STATUS_INTERVAL_MS)}
        self._status, self._log = folder / "status.json", folder / "worker.log"

    def __enter__(self) -> Self:
        self._status.unlink(missing_ok=True)
        command = [*COMMAND, "worker", "--status-file", str(self._status)]
        self._program = LifelineProcess(command, self._environment, self._log, STOP_S)
        self.started_s, lifeline = self._program.started_s, self._program.lifeline
        assert lifeline.stdout is not None
        self.process = psutil.Process(int(lifeline.stdout.readline()))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._program.end()
        status = self._program.lifeline.returncode
        if status and kind is None:
            raise Broken(f"the worker ended with status {status}: {self.last_line()}")

    def sample(self) -> Sample | None:
        """Return the latest status, None before the first; `Broken` if the worker has ended."""
        try:
            times, rss_bytes = self.process.cpu_times(), self.process.memory_info().rss
            status = orjson.loads(self._status.read_bytes())
        except FileNotFoundError:
            return None
        except psutil.NoSuchProcess as error:
            raise Broken(f"the worker has ended: {self.last_line()}") from error
        cpu_s = times.user + times.system + times.children_user + times.children_system
        return Sample(status, cpu_s, rss_bytes)

    def wait_until(self, is_reached: Callable[[Sample], bool]) -> list[Sample]:
        """Return every status from the last without a block to the first for which ``is_reached`` is true."""
        return watch([self], lambda seen: is_reached(seen[0][-1]))[0]

    def wait_ready(self, partitions: int) -> Sample:
        """Wait until so many partitions have their state."""
        return self.wait_until(lambda sample: len(sample.status["partitions"]) >= partitions)[-1]

    def wait_durable(self, last: Mapping[int, int]) -> list[Sample]:
        """Wait until each partition is durable up to its ``last`` offset; return statuses as `wait_until` does."""
        return self.wait_until(lambda sample: sample.has_reached("durable", last))

    def last_line(self) -> str:
        """Return the last line of the log."""
        return self._program.last_line()


def watch(workers: Sequence[Worker], is_reached: Callable[[list[list[Sample]]], bool]) -> list[list[Sample]]:
    """Return every status of each worker, from its last without a block until ``is_reached`` is true of all.

    Raises `Broken` after `START_TIMEOUT_S`, later after `STALL_S` without progress.
    """
    seen: list[list[Sample]] = [[] for _ in workers]
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not (all(seen) and is_reached(seen)):
        for worker, samples in zip(workers, seen, strict=True):
            found = worker.sample()
            if found is None or (samples and samples[-1].time_s == found.time_s):
                continue
            if samples and found.status["partitions"] != samples[-1].status["partitions"]:
                deadline_s = time.monotonic() + STALL_S
            if not found.blocks:
                samples.clear()
            samples.append(found)
        if time.monotonic() > deadline_s:
            raise Broken(f"a worker makes no progress: {workers[0].last_line()}")
        time.sleep(POLL_S)
    return seen


@dataclass(frozen=True)
class EngineRun:
    """The figures of one run over a topic."""

    events: int
    events_per_s: float
    cpu_s_per_million: float
    keys: int
    start_s: float
    rss_most_mb: float
    rss_growth_bytes_per_key: float
    counts: dict[str, int]


def figures_of(samples: list[Sample], last: Mapping[int, int], started_s: float) -> EngineRun:
    """Return the figures of a run from the samples of `Worker.wait_durable`; ``started_s`` is the worker's start, Unix time."""
    first, end = samples[0], samples[-1]
    if first.blocks:
        raise Broken("the worker had read events before its first status: nothing can be timed")
    applied = next(sample for sample in samples if sample.has_reached("applied", last))
    saving_s = covered_s(checkpoints_after(samples, applied, last))
    seconds = applied.time_s - first.time_s + saving_s
    status, since = end.status, end.status["since_start"]
    events = end.records
    return EngineRun(
        events=events,
        events_per_s=events / seconds,
        cpu_s_per_million=(end.cpu_s - first.cpu_s) / events * 1e6,
        keys=status["keys"],
        start_s=first.time_s - started_s,
        rss_most_mb=since["rss_most_kb"] / 1024,
        rss_growth_bytes_per_key=(end.rss_bytes - first.rss_bytes) / max(status["keys"], 1),
        counts={name: status[name] for name in COUNTS} | {"slow": since["slow"]},
    )


def checkpoints_after(samples: list[Sample], applied: Sample, last: Iterable[int]) -> list[tuple[float, float]]:
    """Return when checkpoints were at work after the ``applied`` sample, as (begin, end) in Unix time."""
    later = samples[samples.index(applied) :]
    return [
        (max(applied.time_s, after.time_s - took_s), after.time_s)
        for before, after in itertools.pairwise(later)
        for number in last
        if (took_s := after.checkpoint_s(number) - before.checkpoint_s(number)) > 0
    ]


def covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds within any of the spans."""
    covered, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def bytes_per_key() -> float:
    """Return the bytes per sender of a full table: its row and its slots in the index."""
    keys = options.WorkerOptions().rows_per_partition
    state = empty_state(keys)
    return (state.rows.nbytes + state.slots.nbytes) / keys


class Watched(NamedTuple):
    """What `figures_of` takes."""

    samples: list[Sample]
    last: dict[int, int]  # offset of each partition's last event
    started_s: float


def watch_engine(space: TopicSpace, folder: Path, **variables: str) -> Watched:
    """Run a fresh worker over the whole topic; ``variables`` are added to its environment."""
    topic_space.empty_outputs(space)
    last = topic_space.last_offsets(space)
    with Worker(space.environment(f"bench-{time.time_ns()}", **variables), folder) as worker:
        return Watched(worker.wait_durable(last), last, worker.started_s)


def json_of(module: str, arguments: Sequence[str], space: TopicSpace) -> Any:
    """Return the JSON in the last line of a module of ours, run without the caller's options."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=space.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Broken(f"{module} ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_kernel_floor(space: TopicSpace) -> dict[str, float]:
    """Return what `benchmarks.harness.kernel_floor` measures on a filled topic."""
    arguments = ["--bootstrap", space.bootstrap, "--topic", space.connections, "--partitions", str(space.partitions)]
    floor: dict[str, float] = json_of("benchmarks.harness.kernel_floor", arguments, space)
    return floor
