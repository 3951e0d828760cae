"""A trace through Kafka: topics of its own, `tidegate produce`, `tidegate worker` until everything is durable."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import orjson

from benchmarks.harness.cluster import Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import COMMAND

WAIT_S = 120.0
LOOK_S = 0.05


class Kafka:
    """Topics under ``prefix`` with so many partitions."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int, folder: Path) -> None:
        self.place = Place(bootstrap, prefix)
        self.partitions = partitions
        self._status = folder / "status.json"
        self.environment = {
            **self.place.environment(prefix + "app"),
            "TIDEGATE_TOPICS_PARTITIONS": str(partitions),
            "TIDEGATE_WORKER_CHECKPOINT_INTERVAL_MS": "200",
            "TIDEGATE_WORKER_STATUS_FILE": str(self._status),
            "TIDEGATE_WORKER_STATUS_INTERVAL_MS": "50",
        }

    def play(self, trace: Path) -> int:
        """Send a trace and let a worker apply it; the number of events it counted."""
        self._run("topics", "--create")
        said = self._run("produce", str(trace))
        sent = int(said.split(" ")[0].replace(",", ""))
        self._status.unlink(missing_ok=True)
        with subprocess.Popen([*COMMAND, "worker"], env=self.environment, stderr=subprocess.DEVNULL) as worker:
            try:
                deadline_s = time.monotonic() + WAIT_S
                while not self._done(sent):
                    if worker.poll() is not None or time.monotonic() > deadline_s:
                        raise Broken(f"{trace.name}: the worker didn't get through")
                    time.sleep(LOOK_S)
            finally:
                worker.terminate()
        return sent

    def _done(self, sent: int) -> bool:
        status = orjson.loads(self._status.read_bytes()) if self._status.exists() else {"partitions": {}}
        shards = status["partitions"].values()
        durable = len(shards) == self.partitions and all(shard["applied"] == shard["durable"] for shard in shards)
        return durable and status["events"] == sent

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*COMMAND, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken(f"tidegate {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
