"""The postmaster's questions put to a cluster get the answers that the recorded events give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.local import EmbeddedBroker
from tests.months import write_month
from tests.system.workers import WorkerProcess, environment, tidegate

pytestmark = pytest.mark.timeout(180)
PARTITIONS = 4


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson", size=0.01)


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    env = environment(broker.bootstrap, prefix, PARTITIONS)
    said("topics", "--create", env=env)
    return env


def said(*arguments: str, env: dict[str, str], stdin: bytes = b"") -> bytes:
    done = tidegate(*arguments, env=env, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def work(env: dict[str, str], folder: Path, events: int) -> None:
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(PARTITIONS, events)
        assert worker.stop() == 0


def decisions_of(output: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_a_cluster_explains_and_draws_as_the_file_does(cluster: dict[str, str], month: Path, tmp_path: Path) -> None:
    said("produce", str(month), env=cluster)
    work(cluster, tmp_path, month.read_bytes().count(b"\n"))
    throttles = decisions_of(said("decisions", "--no-follow", "--json", env=cluster))
    last = max((found for found in throttles if found["verdict"] == "throttle"), key=lambda found: found["issued"])
    network, at = last["network"], str(orjson.loads(month.read_bytes().splitlines()[-1])["ts"] + 1000)
    theirs = orjson.loads(said("explain", network, "--at", at, "--json", env=cluster))
    ours = orjson.loads(said("explain", network, str(month), "--at", at, "--json", env=cluster))
    assert theirs["decisions"][-1] == ours["decisions"][-1] == last
    for answer in (theirs, ours):
        del answer["decisions"]  # of the superseded ones compaction may have left some
    assert theirs == ours
    assert theirs["throttled"] == (last["until"] > int(at))
    drawn = [said("plot", network, "--from", source, "--out", "-", env=cluster) for source in ("topic", str(month))]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]


def test_the_state_of_a_cluster_cannot_go_back(cluster: dict[str, str], tmp_path: Path) -> None:
    said("produce", "-", env=cluster, stdin=b'{"ts":1764000000000,"ip":"192.0.2.1"}\n')
    work(cluster, tmp_path, 1)
    refused = tidegate("explain", "192.0.2.1", "--at", "2025-11-01", env=cluster)
    assert refused.returncode == 2
    assert b"can't go back: give EVENTS" in refused.stderr
