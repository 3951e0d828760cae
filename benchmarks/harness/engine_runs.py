"""A fresh worker over a whole topic, and its floors on the same, as every benchmark of the engine runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import cluster
from benchmarks.harness.cluster import PARTITIONS, Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import EngineRun, Sample, Worker, measured

HERE = Path(__file__).parent


def run_engine(place: Place, folder: Path) -> EngineRun:
    """One run of a fresh worker over the whole topic."""
    return measured(*watch_engine(place, folder))


def watch_engine(place: Place, folder: Path, **variables: str) -> tuple[list[Sample], dict[int, int], float]:
    """What `measured` takes: every status of such a run, the partitions' last offsets, when the worker was started.
    ``variables``: of its environment, besides the place's."""
    cluster.empty_outputs(place)
    last = {number: end - 1 for number, end in cluster.ends(place).items()}
    with Worker(place.environment(f"bench-{time.time_ns()}", **variables), folder) as worker:
        samples = worker.until_durable(last)
    return samples, last, worker.started_s


def run_floors(place: Place, **variables: str) -> dict[str, dict[str, float]]:
    """The floors on a filled topic (`floors.py`); ``variables``: of their environment, besides the place's."""
    arguments = ["--bootstrap", place.bootstrap, "--topic", place.connections, "--partitions", str(PARTITIONS)]
    floors: dict[str, dict[str, float]] = json_of(place, HERE / "floors.py", arguments, **variables)
    return floors


def json_of(place: Place, script: Path, arguments: list[str], **variables: str) -> Any:
    """What a script of ours prints, in an environment without the caller's options."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=place.environment(**variables), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Broken(f"{script.name} ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])
