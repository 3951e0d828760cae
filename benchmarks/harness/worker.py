"""A `tidegate worker` as a subprocess, watched from outside: its status file, its processor time, its memory.

A run is timed from the last status that showed no block to the first that shows every event applied, and on as long as any
partition's checkpoint is at work: then all of it is durable. The status interval (50 ms) counts against the engine at both
ends; what is left out is only the time that the worker idles until its timer calls for the last checkpoint.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
import psutil

import engine.broker
from benchmarks.harness.errors import Broken
from engine.config import options
from engine.detector.layout import empty_state

COMMAND = (sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())")
LIFELINE = Path(engine.broker.__file__).with_name("lifeline.py")
STATUS_INTERVAL_MS = 50
LOOK_S = 0.01
START_TIMEOUT_S = 180.0  # the first run on a machine compiles
STALL_S = 60.0
STOP_S = 30.0


class Sample(NamedTuple):
    """A status, and the processor seconds and resident octets of the worker and its children when it was read."""

    status: dict[str, Any]
    cpu_s: float
    rss_octets: int

    @property
    def time_s(self) -> float:
        """When the worker wrote it."""
        return float(self.status["time_ms"]) / 1000

    @property
    def blocks(self) -> int:
        """How many it had applied since it started."""
        return int(self.status["since_start"]["blocks"])

    @property
    def records(self) -> int:
        """How many events it had read since it started."""
        return int(self.status["since_start"]["records"])

    def reached(self, column: str, last: Mapping[int, int]) -> bool:
        """Whether each partition's ``column`` (applied, durable) has come to its last offset."""
        found = self.status["partitions"]
        return all(str(number) in found and found[str(number)][column] >= offset for number, offset in last.items())

    def checkpoint_s(self, number: int) -> float:
        """Seconds that a partition's checkpoints have taken so far."""
        return float(self.status["partitions"].get(str(number), {}).get("checkpoint_s", 0.0))


class Worker:
    """A worker with ``environment``, its status file and log in ``folder``, as long as a `with` block. It runs on the
    embedded broker's lifeline: however the benchmark ends, SIGKILL included, the worker ends too."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = {**environment, "TIDEGATE_WORKER_STATUS_INTERVAL_MS": str(STATUS_INTERVAL_MS)}
        self._folder = folder
        self._status, self._log = folder / "status.json", folder / "worker.log"

    def __enter__(self) -> Self:
        self._status.unlink(missing_ok=True)
        self.started_s = time.time()
        command = [*COMMAND, "worker", "--status-file", str(self._status)]
        with self._log.open("wb") as log:
            self._lifeline = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LIFELINE), str(STOP_S), *command],
                cwd=self._folder, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        assert self._lifeline.stdout is not None
        self.process = psutil.Process(int(self._lifeline.stdout.readline()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lifeline.stdin is not None
        assert self._lifeline.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._lifeline.stdin.close()
        self._lifeline.stdout.close()
        status = self._lifeline.wait()
        if status and kind is None:
            raise Broken(f"the worker ended with status {status}: {self._complaint()}")

    def sample(self) -> Sample | None:
        """The latest status; None before the first."""
        try:
            times, rss_octets = self.process.cpu_times(), self.process.memory_info().rss
            status = orjson.loads(self._status.read_bytes())
        except FileNotFoundError:
            return None
        except psutil.NoSuchProcess as error:
            raise Broken(f"the worker has stopped: {self._complaint()}") from error
        cpu_s = times.user + times.system + times.children_user + times.children_system
        return Sample(status, cpu_s, rss_octets)

    def wait_ready(self, partitions: int) -> Sample:
        """Wait until so many partitions have their state."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while (found := self.sample()) is None or len(found.status["partitions"]) < partitions:
            self._check(deadline_s)
            time.sleep(LOOK_S)
        return found

    def until_durable(self, last: Mapping[int, int]) -> list[Sample]:
        """Every status from the last without a block, or from now on, to the first that has each partition durable up to
        its ``last`` offset."""
        samples: list[Sample] = []
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not (samples and samples[-1].reached("durable", last)):
            found = self.sample()
            if found is not None and not (samples and samples[-1].time_s == found.time_s):
                if samples and found.status["partitions"] != samples[-1].status["partitions"]:
                    deadline_s = time.monotonic() + STALL_S
                if not found.blocks:
                    samples.clear()
                samples.append(found)
            self._check(deadline_s)
            time.sleep(LOOK_S)
        return samples

    def _check(self, deadline_s: float) -> None:
        if time.monotonic() > deadline_s:
            raise Broken(f"the worker gets no further: {self._complaint()}")

    def _complaint(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@dataclass(frozen=True)
class EngineRun:
    """What one run over a topic showed. ``idle_s``: waiting for the last checkpoint's timer, not part of ``seconds``;
    ``busy_s``: of ``seconds``, spent detecting, beside which unpacking and scanning run; ``checkpoint_s``: over all
    partitions."""

    events: int
    events_per_s: float
    seconds: float
    idle_s: float
    cpu_s_per_million: float
    busy_s: float
    checkpoint_s: float
    checkpoints: int
    checkpoint_rows: int
    blocks: int
    keys: int
    start_s: float
    rss_most_mb: float
    rss_growth_octets_per_key: float
    counts: dict[str, int]


def measured(samples: list[Sample], last: Mapping[int, int], started_s: float) -> EngineRun:
    """The run that ``samples`` (of `Worker.until_durable`) show; ``started_s``: when the worker was started (Unix time)."""
    first, end = samples[0], samples[-1]
    if first.blocks:
        raise Broken("the worker had read events before its first status: nothing can be timed")
    applied = next(sample for sample in samples if sample.reached("applied", last))
    saving_s = covered_s(checkpoints_after(samples, applied, last))
    seconds = applied.time_s - first.time_s + saving_s
    status, since = end.status, end.status["since_start"]
    partitions = status["partitions"].values()
    events = end.records
    return EngineRun(
        events=events,
        events_per_s=events / seconds,
        seconds=seconds,
        idle_s=max(0.0, end.time_s - applied.time_s - saving_s),
        cpu_s_per_million=(end.cpu_s - first.cpu_s) / events * 1e6,
        busy_s=since["busy_s"],
        checkpoint_s=sum(partition["checkpoint_s"] for partition in partitions),
        checkpoints=sum(partition["checkpoints"] for partition in partitions),
        checkpoint_rows=sum(partition["checkpoint_rows"] for partition in partitions),
        blocks=end.blocks,
        keys=status["keys"],
        start_s=first.time_s - started_s,
        rss_most_mb=since["rss_most_kb"] / 1024,
        rss_growth_octets_per_key=(end.rss_octets - first.rss_octets) / max(status["keys"], 1),
        counts={name: status[name] for name in COUNTS} | {"slow": since["slow"]},
    )


def checkpoints_after(samples: list[Sample], applied: Sample, last: Iterable[int]) -> list[tuple[float, float]]:
    """When checkpoints were at work after the ``applied`` sample, as (begin, end) in Unix time, one a checkpoint."""
    later = samples[samples.index(applied) :]
    return [
        (max(applied.time_s, after.time_s - took_s), after.time_s)
        for before, after in itertools.pairwise(later)
        for number in last
        if (took_s := after.checkpoint_s(number) - before.checkpoint_s(number)) > 0
    ]


def covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds within any of the spans."""
    covered, behind = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, behind))
        behind = max(behind, end)
    return covered


COUNTS = ("events", "late", "poison", "throttles", "releases", "untracked", "miskeyed")


def octets_per_key() -> tuple[float, float]:
    """Octets a key of a full table: its row and its place in the index; and all arrays of the state."""
    keys = options.WorkerOptions().rows_per_partition
    state = empty_state(keys)
    return (state.rows.nbytes + state.index.nbytes) / keys, sum(
        part.nbytes for part in (*state[:-1], *state.pools)
    ) / keys
