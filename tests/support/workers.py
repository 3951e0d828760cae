"""Worker processes for system tests: each has its own environment, and is watched by its status file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tests.support.pace import scaled

WAIT_S = scaled(30)


def environment(bootstrap: str, prefix: str, partitions: int, **more: object) -> dict[str, str]:
    """Return variables that give every command the same cluster, topics and app id."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    clean["TIDEGATE_CACHE_DIR"] = os.environ["TIDEGATE_CACHE_DIR"]
    ours = {
        "KAFKA_BOOTSTRAP": bootstrap,
        "TOPICS_PREFIX": prefix,
        "TOPICS_PARTITIONS": partitions,
        "TOPICS_RETENTION_MS": -1,
        "WORKER_APP_ID": prefix + "app",
        "WORKER_ROWS_PER_PARTITION": 1 << 16,
        "WORKER_CHECKPOINT_INTERVAL_MS": 200,
        "WORKER_STATUS_INTERVAL_MS": 50,
        "WORKER_HTTP": "",
        "MODEL_LEARNING_DAYS": 0,
        **more,
    }
    return {**clean, **{f"TIDEGATE_{name}": str(value) for name, value in ours.items()}}


def tidegate(*arguments: str, env: dict[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command and return its outcome."""
    command = [sys.executable, "-m", "engine.cli", *arguments]
    return subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=WAIT_S, check=False)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for ``condition``."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{WAIT_S:g} s without {what}"
        time.sleep(0.05)


class WorkerProcess:
    """A worker; ``command`` replaces `tidegate worker`. Use it as a context, which kills a worker that still runs."""

    def __init__(self, env: dict[str, str], folder: Path, command: list[str] | None = None) -> None:
        self.status_file = folder / "status.json"
        self.status_file.unlink(missing_ok=True)
        self.log = (folder / "worker.log").open("ab")
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "engine.cli", "worker"],
            env={**env, "TIDEGATE_WORKER_STATUS_FILE": str(self.status_file)},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    @property
    def status(self) -> dict[str, Any]:
        """The last status, empty before the first."""
        return orjson.loads(self.status_file.read_bytes()) if self.status_file.exists() else {}

    def wait_for(self, partitions: int, events: int, *, durable: bool = True) -> dict[str, Any]:
        """Wait until it owns all partitions and has counted ``events`` (and they are durable); return the status."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            status = self.status
            shards = status.get("partitions", {})
            done = len(shards) == partitions and status["events"] >= events
            if done and (not durable or all(shard["applied"] == shard["durable"] for shard in shards.values())):
                return status
            assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.05)
        raise AssertionError(f"after {WAIT_S} s: {self.status}\n{Path(self.log.name).read_text()}")

    def stop(self) -> int:
        """Stop it gracefully; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()
