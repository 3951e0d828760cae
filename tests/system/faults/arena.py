"""The surroundings of a fault: topics of its own on a broker, the events sent to them, and the workers of one app id.

Workers are real processes. One that ends in a way that its fault doesn't allow is a complaint; none outlives the arena.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.harness.topic_space import TopicSpace
from engine.broker import EmbeddedBroker
from engine.config.load import Settings, load_settings
from tests.support.workers import WorkerProcess, environment, tidegate
from tests.system.faults import cluster
from tests.system.faults.flow import Flow, Source, lines
from tests.system.faults.verdict import NO_GAP, Verdict, judge

CHECK_S = 0.05
WAIT_S = 120.0
STOP_S = 60.0
SESSION_S = 6
SENSITIVITY = 2.8  # T = 0.1, an eighth of the default: more decisions that could go wrong
GRACEFUL, FENCED = 0, 2


@dataclass(frozen=True)
class Ground:
    """The load and the options of an arena."""

    events: int = 60_000
    keys: int = 5_000
    partitions: int = 4
    hot: bool = False  # every second event is of one sender
    disk_mb: int = 0  # size of the broker's own disk, 0 for none
    options: Mapping[str, object] = field(default_factory=dict)  # of the worker: variables without TIDEGATE_


class Arena:
    """Topics under ``prefix`` on ``broker``; logs in ``folder``. Use it as a context."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, prefix: str, ground: Ground) -> None:
        options = {"WORKER_SESSION_TIMEOUT_S": SESSION_S, "MODEL_SENSITIVITY": SENSITIVITY, **ground.options}
        self.broker, self.folder, self.ground = broker, folder, ground
        self.env = environment(broker.bootstrap, prefix, ground.partitions, **options)
        self.settings: Settings = load_settings(None, self.env, {})
        self.space = TopicSpace(broker.bootstrap, prefix)
        self.gap = NO_GAP
        self.complaints: list[str] = []
        self.notes: dict[str, Any] = {}
        self._workers: list[WorkerProcess] = []
        self._leaving: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        ground = self.ground
        self.create_topics()
        text = lines(ground.events, ground.keys, hot=ground.hot)
        options = self.settings.kafka.client_options()
        self.source = Source(self.space.connections, ground.partitions, text, options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers + self._leaving:
            worker.__exit__()

    def create_topics(self) -> None:
        """Create missing topics."""
        created = tidegate("topics", "--create", env=self.env)
        assert created.returncode == 0, created.stderr.decode()

    def flow(self, rate: float = 1_000) -> Flow:
        """Return a context that sends ``rate`` events per second, then the rest at full speed."""
        return self.source.flow(rate)

    def start(self, name: str = "one", *, static: bool = False) -> WorkerProcess:
        """Start a worker; if ``static``, its name is its instance id, so a restart owns its partitions immediately."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        env = {**self.env, "TIDEGATE_WORKER_INSTANCE_ID": name} if static else self.env
        worker = WorkerProcess(env, folder)
        self._workers.append(worker)
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """Kill a worker with SIGKILL."""
        self._workers.remove(worker)
        worker.kill()
        worker.__exit__()

    def leave(self, worker: WorkerProcess) -> None:
        """Send SIGTERM; `stop` checks the exit status later."""
        self._workers.remove(worker)
        self._leaving.append(worker)
        worker.process.send_signal(signal.SIGTERM)

    def stop(self, *workers: WorkerProcess, may_be_fenced: bool = False) -> None:
        """Stop workers (all, if none is named), and wait for them and for those that are leaving."""
        allowed = (GRACEFUL, FENCED) if may_be_fenced else (GRACEFUL,)
        for worker in workers or tuple(self._workers):
            self.leave(worker)
        while self._leaving:
            worker = self._leaving.pop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(STOP_S)
            self._ended(worker, worker.process.poll(), allowed)

    def fenced(self, worker: WorkerProcess) -> bool:
        """Return True, and drop the worker, if it has ended because another owns its partitions."""
        status = worker.process.poll()
        if status is None:
            return False
        self._workers.remove(worker)
        self._ended(worker, status, (FENCED,))
        return True

    def _ended(self, worker: WorkerProcess, status: int | None, allowed: tuple[int, ...]) -> None:
        """Drop a worker; complain unless it has ended with an ``allowed`` status (None: it still runs).

        A worker that receives SIGTERM before its start may end by the signal.
        """
        worker.__exit__()
        if status == -signal.SIGTERM and not worker.status:
            return
        if status is None:
            self.complaints.append(f"a worker did not end within {STOP_S:g} s: {last_line(worker)}")
        elif status not in allowed:
            self.complaints.append(f"a worker ended with status {status}: {last_line(worker)}")

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> float:
        """Wait for ``condition`` and return the seconds. Raises AssertionError with the workers' status at the time-out."""
        begun_s = time.monotonic()
        while not condition():
            shown = "\n".join(f"{worker.status}\n{last_line(worker)}" for worker in self._workers)
            assert time.monotonic() - begun_s < timeout_s, f"{timeout_s:g} s without {what}:\n{shown}"
            self._check_workers()
            time.sleep(CHECK_S)
        return time.monotonic() - begun_s

    def _check_workers(self) -> None:
        for worker in list(self._workers):
            if (status := worker.process.poll()) is not None:
                self._workers.remove(worker)
                self._ended(worker, status, ())
                assert self._workers, self.complaints[-1]

    def until_working(self, *workers: WorkerProcess) -> float:
        """Wait until each of ``workers`` has applied a block and every partition is owned; return the seconds."""

        def working() -> bool:
            statuses = [worker.status for worker in workers]
            owned = {number for status in statuses for number in status.get("partitions", {})}
            busy = all(status and status["since_start"]["blocks"] for status in statuses)
            return busy and len(owned) == self.ground.partitions

        return self.until(working, "workers at work")

    def settle(self) -> float:
        """Wait until all sent events are durable; return the seconds."""
        ends = cluster.ends(self.space.bootstrap, self.space.connections, self.ground.partitions)
        return self.until(lambda: all(self.durable(n) >= end - 1 for n, end in ends.items()), "all events durable")

    def durable(self, number: int) -> int:
        """Return the last durable offset of a partition that any worker shows."""
        return self.shown(number, "durable")

    def shown(self, number: int, column: str) -> int:
        """Return the greatest value of a partition's ``column`` that any worker shows, -2 if none does."""
        shards = [worker.status.get("partitions", {}).get(str(number)) for worker in tuple(self._workers)]
        return max((int(shard[column]) for shard in shards if shard), default=-2)

    def judge(self) -> Verdict:
        """Send the remaining events, wait until they are durable, stop the workers, and compare with a replay."""
        self.source.rest()
        if self._workers:
            self.settle()
        self.stop()
        verdict = judge(self.settings, self.source.lines[: self.source.sent], self.gap)
        verdict.complaints += self.complaints
        return verdict


def pause(worker: WorkerProcess) -> None:
    """Send SIGSTOP."""
    os.kill(worker.process.pid, signal.SIGSTOP)


def resume(worker: WorkerProcess) -> None:
    """Send SIGCONT."""
    os.kill(worker.process.pid, signal.SIGCONT)


def owned(worker: WorkerProcess) -> int:
    """Return the number of partitions that a worker shows as its own."""
    return len(worker.status.get("partitions", {}))


def last_line(worker: WorkerProcess) -> str:
    """Return the last line of a worker's log."""
    log = Path(worker.log.name).read_text(errors="replace").strip().splitlines()
    return log[-1] if log else "its log is empty"
