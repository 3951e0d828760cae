"""The postmaster's questions put to a cluster get the answers that the recorded events give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.local import EmbeddedBroker
from tests.months import write_month
from tests.system.workers import WorkerProcess, environment, tidegate
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

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


def parted(month: Path, folder: Path, after_ms: int) -> tuple[Path, bytes, list[int]]:
    """What is before a moment as a file, the rest as lines, and how many events of the first part each partition gets."""
    lines = month.read_bytes().splitlines(keepends=True)
    first = [line for line in lines if stamp(line) <= after_ms]
    (folder / "first.ndjson").write_bytes(b"".join(first))
    dealt = [0] * PARTITIONS
    for line in first:
        dealt[partition_of(key_text(key_of(orjson.loads(line)["ip"])).encode(), PARTITIONS)] += 1
    return folder / "first.ndjson", b"".join(lines[len(first) :]), dealt


def stamp(line: bytes) -> int:
    return int(orjson.loads(line)["ts"])


def from_offsets(decisions: list[dict[str, Any]], dealt: list[int]) -> list[bytes]:
    """Decisions with source offsets counted from the end of the first part; those before it have negative ones."""
    for decision in decisions:
        decision["source"]["offset"] -= dealt[decision["source"]["partition"]]
    return [orjson.dumps(decision) for decision in decisions]


def test_warmed_with_old_logs_a_worker_goes_on_as_if_it_had_seen_them(
    cluster: dict[str, str], month: Path, tmp_path: Path
) -> None:
    whole = decisions_of(said("replay", str(month), "--decisions", "-", env=cluster))
    throttles = [decision for decision in whole if decision["verdict"] == "throttle"]
    first, second, dealt = parted(month, tmp_path, throttles[len(throttles) // 2]["issued"])
    warmed = tidegate("warm", str(first), env=cluster)
    assert warmed.returncode == 0, warmed.stderr.decode()
    standing = decisions_of(said("decisions", "--no-follow", "--json", env=cluster))
    assert {decision["source"]["offset"] for decision in standing} == {-1}
    said("produce", "-", env=cluster, stdin=second)
    work(cluster, tmp_path, month.read_bytes().count(b"\n"))
    published = decisions_of(said("decisions", "--no-follow", "--json", env=cluster))
    later = [line for line in from_offsets(whole, dealt) if orjson.loads(line)["source"]["offset"] >= 0]
    ours = [orjson.dumps(decision) for decision in published if decision not in standing]
    assert len(later) > 20
    assert sorted(ours) == sorted(later)
    told = {
        found["network"]: found for found in decisions_of(said("replay", str(first), "--decisions", "-", env=cluster))
    }
    for decision in standing:
        assert {**decision, "source": None} == {**told[decision["network"]], "source": None}


def test_a_state_that_is_there_is_not_replaced_unasked(cluster: dict[str, str], tmp_path: Path) -> None:
    first, other = tmp_path / "first.ndjson", tmp_path / "other.ndjson"
    first.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":7}\n{"ts":1764000000001,"ip":"192.0.2.9"}\n')
    other.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":3}\n')
    assert tidegate("warm", str(first), env=cluster).returncode == 0
    refused = tidegate("warm", str(other), env=cluster)
    assert refused.returncode == 2
    assert b"the cluster has state already" in refused.stderr
    with WorkerProcess(cluster, tmp_path) as worker:
        worker.wait_for(PARTITIONS, 2)
        busy = tidegate("warm", str(other), "--replace", env=cluster)
        assert worker.stop() == 0
    assert (busy.returncode, b"1 worker of" in busy.stderr) == (2, True)
    replaced = tidegate("warm", str(other), "--replace", env=cluster)
    assert replaced.returncode == 0, replaced.stderr.decode()
    known, forgotten = (
        orjson.loads(said("explain", network, "--json", env=cluster)) for network in ("192.0.2.1", "192.0.2.9")
    )
    assert (known["past"]["accepted"], forgotten["past"]) == (3, None)


def test_what_is_on_the_topic_is_not_counted_twice(cluster: dict[str, str], tmp_path: Path) -> None:
    logs = tmp_path / "logs.ndjson"
    logs.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1"}\n{"ts":1764000009000,"ip":"192.0.2.1"}\n')
    said("produce", "-", env=cluster, stdin=b'{"ts":1764000005000,"ip":"192.0.2.1"}\n')
    refused = tidegate("warm", str(logs), env=cluster)
    assert refused.returncode == 2
    assert b"say --until 1764000004999" in refused.stderr
    said("warm", str(logs), "--until", "1764000004999", env=cluster)
    work(cluster, tmp_path, 2)
    assert orjson.loads(said("explain", "192.0.2.1", "--json", env=cluster))["past"]["accepted"] == 2
