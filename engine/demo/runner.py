"""Run the demo: a worker in its own process, and the month published to Kafka, the last day at a watchable pace."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from engine.config.load import Settings
from engine.demo.events import MTA_NAMES, SimulatedEvents
from engine.kafka.event_producer import EventProducer
from topics.columns.write import Drafts, Texts, texts, write_lines
from topics.errors import OperatorError

CHUNK_BYTES = 4 << 20
PACE_S = 0.05
STOP_S = 20.0


class DemoWorker:
    """A `tidegate worker` process."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._status_file = folder / "status.json"
        self.log = folder / "worker.log"
        environment = {**os.environ, **_environment(settings), "TIDEGATE_WORKER_STATUS_FILE": str(self._status_file)}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "worker"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    @property
    def status(self) -> dict[str, Any]:
        """Return its last status, empty before the first. Raise OperatorError with its last log line once it has ended."""
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise OperatorError(f"the worker ended (exit status {self._process.returncode}): {lines[-1]}")
        if not self._status_file.exists():
            return {}
        status: dict[str, Any] = orjson.loads(self._status_file.read_bytes())
        return status

    def stop(self) -> None:
        """Stop it gracefully, and kill it after `STOP_S`."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that give a process the same settings."""
    return {
        "TIDEGATE_KAFKA_BOOTSTRAP": settings.kafka.bootstrap,
        "TIDEGATE_WORKER_HTTP": "",  # another worker may use the default address
        "TIDEGATE_TOPICS_PREFIX": settings.topics.prefix,
        "TIDEGATE_TOPICS_PARTITIONS": str(settings.topics.partitions),
        "TIDEGATE_TOPICS_RETENTION_MS": str(settings.topics.retention_ms),
        "TIDEGATE_WORKER_APP_ID": settings.worker.app_id,
        "TIDEGATE_WORKER_STATUS_INTERVAL_MS": "100",
    }


@contextmanager
def running_worker(settings: Settings, folder: Path) -> Iterator[DemoWorker]:
    """Run a worker within the block."""
    process = DemoWorker(settings, folder)
    try:
        yield process
    finally:
        process.stop()


class Feed:
    """Publishes a simulated month."""

    def __init__(self, producer: EventProducer, events: SimulatedEvents) -> None:
        self._producer = producer
        self._events = events
        self._texts: Texts = texts(list(MTA_NAMES))
        self._out = np.empty(CHUNK_BYTES, np.uint8)
        self.sent = 0  # events
        self.clock_ms = int(events.ts_ms[0])  # event time of the last event sent

    async def history(self, until_ms: int) -> None:
        """Publish the events before `until_ms` as fast as Kafka accepts them."""
        await self._send(int(np.searchsorted(self._events.ts_ms, until_ms)))
        await self._producer.flush()

    async def live(self, speed: float) -> None:
        """Publish the rest at `speed` ms of event time per ms."""
        started_s, first_ms = time.monotonic(), self.clock_ms
        while self.sent < len(self._events.ts_ms):
            due_ms = first_ms + int((time.monotonic() - started_s) * 1000 * speed)
            await self._send(int(np.searchsorted(self._events.ts_ms, due_ms)))
            self.clock_ms = due_ms
            await asyncio.sleep(PACE_S)
        await self._producer.flush()

    async def _send(self, end: int) -> None:
        columns = self._events
        while self.sent < end:
            span = slice(self.sent, min(end, self.sent + (1 << 15)))
            drafts = Drafts._make(column[span] for column in columns[:6])
            done, at = 0, 0
            while done < len(drafts.ts_ms):
                done, at = write_lines(drafts, done, self._texts, self._out)
                await self._producer.send(self._out[:at].tobytes())
            self.sent = span.stop
            self.clock_ms = int(columns.ts_ms[self.sent - 1])
            await asyncio.sleep(0)
