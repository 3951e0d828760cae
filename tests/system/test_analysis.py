"""Analysis commands on a cluster give the results that they give on the recorded events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.broker import EmbeddedBroker
from engine.cli import main
from engine.kafka.topic_admin import recreate
from tests.support.logs import file_of, syslog_lines
from tests.support.months import write_month
from tests.support.workers import WorkerProcess, environment
from topics.contracts import UNLIMITED, contracts
from topics.keys import key_of, key_text
from topics.networks import network_text
from topics.partitioner import partition_of

pytestmark = pytest.mark.timeout(180)
PARTITIONS = 4


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson")


@dataclass(frozen=True)
class Cluster:
    """Topics of one test, and commands on them. They run in this process, as a start costs more than a command."""

    env: dict[str, str]
    captured: pytest.CaptureFixture[bytes]

    def tidegate(self, *arguments: str) -> tuple[int, bytes, bytes]:
        """Run a command; return exit status, standard output, standard error."""
        self.captured.readouterr()
        status = main(list(arguments))
        return status, *self.captured.readouterr()

    def output(self, *arguments: str) -> bytes:
        """Run a command that must succeed and return its output."""
        status, out, err = self.tidegate(*arguments)
        assert status == 0, err.decode()
        return out

    def explain(self, network: str, *arguments: str) -> dict[str, Any]:
        """Return the JSON of `tidegate explain`."""
        return dict(orjson.loads(self.output("explain", network, *arguments, "--json")))

    def decisions(self) -> list[dict[str, Any]]:
        """Return all decisions on the topic."""
        return decisions_of(self.output("decisions", "--no-follow", "--json"))


@pytest.fixture
def cluster(
    broker: EmbeddedBroker, prefix: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Cluster:
    env = environment(broker.bootstrap, prefix, PARTITIONS)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    made = Cluster(env, capsysbinary)
    made.output("topics", "--create")
    return made


def work(env: dict[str, str], folder: Path, events: int) -> None:
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(PARTITIONS, events)
        assert worker.stop() == 0


def decisions_of(output: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_explain_and_plot_on_a_cluster_equal_those_of_the_file(cluster: Cluster, month: Path, tmp_path: Path) -> None:
    cluster.output("produce", str(month))
    work(cluster.env, tmp_path, month.read_bytes().count(b"\n"))
    throttles = cluster.decisions()
    end_ms = orjson.loads(month.read_bytes().splitlines()[-1])["ts"] + 1000
    active = [made for made in throttles if made["verdict"] == "throttle" and made["until"] > end_ms]
    last = max(active, key=lambda made: made["issued"])
    network, at = last["network"], str(end_ms)
    theirs = cluster.explain(network, "--at", at)
    ours = cluster.explain(network, str(month), "--at", at)
    assert theirs["decisions"][-1] == ours["decisions"][-1] == last
    for answer in (theirs, ours):
        del answer["decisions"]  # compaction may have left some superseded ones
    assert theirs == ours
    assert theirs["throttled"] == (last["until"] > int(at))
    drawn = [cluster.output("plot", network, "--from", source, "--out", "-") for source in ("topic", str(month))]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]
    verified = cluster.output("explain", network, "--verify").decode()
    equal, _, total = verified.partition(" decisions are equal byte for byte")[0].partition(" of ")
    assert equal == total > "0"
    refused = cluster.tidegate("explain", network, "--at", "2025-11-01")
    assert refused[0] == 2
    assert b"is earlier than the state on the cluster" in refused[2]


@dataclass(frozen=True)
class Published:
    """A month on the topic, and a throttle with its sender's events before it as (line of the file, offset)."""

    lines: list[bytes]
    throttle: dict[str, Any]
    before: list[tuple[int, int]]


def published_month(cluster: Cluster, month: Path, folder: Path) -> Published:
    """Produce the month, process it, and choose a throttle whose sender had eight events before it."""
    lines = month.read_bytes().splitlines(keepends=True)
    cluster.output("produce", str(month))
    work(cluster.env, folder, len(lines))
    own = by_network(lines)
    for throttle in cluster.decisions():
        if throttle["verdict"] == "throttle" and throttle["reason"] == "volume" and throttle["network"] in own:
            last = throttle["source"]["offset"]
            before = [(line, offset) for line, offset in own[throttle["network"]] if offset < last]
            if len(before) >= 8:
                return Published(lines, throttle, before)
    pytest.fail("no such throttle in the month")


def by_network(lines: list[bytes]) -> dict[str, list[tuple[int, int]]]:
    """Return the lines of each network with their offsets."""
    networks: dict[str, list[tuple[int, int]]] = {}
    dealt = [0] * PARTITIONS
    for number, line in enumerate(lines):
        key = key_of(orjson.loads(line)["ip"])
        partition = partition_of(key_text(key).encode(), PARTITIONS)
        networks.setdefault(network_text(key), []).append((number, dealt[partition]))
        dealt[partition] += 1
    return networks


def verified_with(cluster: Cluster, published: Published, lines: list[bytes], folder: Path) -> dict[str, Any]:
    """Replace the events on the topic and verify the throttle's network."""
    (folder / "other.ndjson").write_bytes(b"".join(lines))
    prefix, bootstrap = (cluster.env[f"TIDEGATE_{name}"] for name in ("TOPICS_PREFIX", "KAFKA_BOOTSTRAP"))
    asyncio.run(recreate(bootstrap, contracts(prefix, PARTITIONS, UNLIMITED, 1)[0], {"bootstrap_servers": bootstrap}))
    cluster.output("produce", str(folder / "other.ndjson"))
    return verified(cluster, published)


def verified(cluster: Cluster, published: Published) -> dict[str, Any]:
    """Verify the throttle's network, which must differ; return the throttle's part of the result."""
    status, out, err = cluster.tidegate("explain", published.throttle["network"], "--verify", "--json")
    assert (status, err) == (1, b"")
    offset = published.throttle["source"]["offset"]
    (result,) = (result for result in orjson.loads(out)["differ"] if result["offset"] == offset)
    return dict(result)


def test_verify_on_a_cluster_names_the_changed_input_and_its_offsets(
    cluster: Cluster, month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = published_month(cluster, month, tmp_path)
    lines, offset = published.lines, published.throttle["source"]["offset"]
    (early, early_offset), (late, late_offset) = published.before[0], published.before[-2]

    monkeypatch.setenv("TIDEGATE_MODEL_SENSITIVITY", "high")
    assert verified(cluster, published)["changed"] == ["configuration"]
    monkeypatch.delenv("TIDEGATE_MODEL_SENSITIVITY")

    event = orjson.loads(lines[late])
    more = orjson.dumps({**event, "messages": event.get("messages", 1) + 7}) + b"\n"
    swapped = lines.copy()
    swapped[early], swapped[late] = swapped[late], swapped[early]
    for changed in ([*lines[:late], more, *lines[late + 1 :]], [*lines[:late], *lines[late + 1 :]], swapped):
        result = verified_with(cluster, published, changed, tmp_path)
        assert result["changed"] == ["events"]
        assert result["offsets"][0] <= late_offset <= result["offsets"][1] == offset
        if changed is swapped:
            assert result["offsets"][0] <= early_offset


def split_month(month: Path, folder: Path, until_ms: int) -> tuple[Path, Path, list[int]]:
    """Split the month at a time; return both parts as files and the number of events of the first part by partition."""
    lines = month.read_bytes().splitlines(keepends=True)
    first = [line for line in lines if int(orjson.loads(line)["ts"]) <= until_ms]
    (folder / "first.ndjson").write_bytes(b"".join(first))
    dealt = [0] * PARTITIONS
    for line in first:
        dealt[partition_of(key_text(key_of(orjson.loads(line)["ip"])).encode(), PARTITIONS)] += 1
    (folder / "second.ndjson").write_bytes(b"".join(lines[len(first) :]))
    return folder / "first.ndjson", folder / "second.ndjson", dealt


def with_offsets_after(decisions: list[dict[str, Any]], dealt: list[int]) -> list[bytes]:
    """Return decisions with source offsets counted from the end of the first part, negative before it."""
    for decision in decisions:
        decision["source"]["offset"] -= dealt[decision["source"]["partition"]]
    return [orjson.dumps(decision) for decision in decisions]


def test_worker_after_warm_decides_as_if_it_had_processed_the_logs(
    cluster: Cluster, month: Path, tmp_path: Path
) -> None:
    whole = decisions_of(cluster.output("replay", str(month), "--decisions", "-"))
    throttles = [decision for decision in whole if decision["verdict"] == "throttle"]
    first, second, dealt = split_month(month, tmp_path, throttles[len(throttles) // 2]["issued"])
    cluster.output("warm", str(first))
    seeded = cluster.decisions()
    assert {decision["source"]["offset"] for decision in seeded} == {-1}
    cluster.output("produce", str(second))
    work(cluster.env, tmp_path, month.read_bytes().count(b"\n"))
    published = cluster.decisions()
    later = [line for line in with_offsets_after(whole, dealt) if orjson.loads(line)["source"]["offset"] >= 0]
    ours = [orjson.dumps(decision) for decision in published if decision not in seeded]
    assert len(later) > 20
    assert sorted(ours) == sorted(later)
    replayed = {
        made["network"]: made for made in decisions_of(cluster.output("replay", str(first), "--decisions", "-"))
    }
    for decision in seeded:
        assert {**decision, "source": None} == {**replayed[decision["network"]], "source": None}


def test_warm_replaces_existing_state_only_with_replace(cluster: Cluster, tmp_path: Path) -> None:
    first, other = tmp_path / "first.ndjson", tmp_path / "other.ndjson"
    first.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":7}\n{"ts":1764000000001,"ip":"192.0.2.9"}\n')
    other.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":3}\n')
    cluster.output("warm", str(first))
    refused = cluster.tidegate("warm", str(other))
    assert refused[0] == 2
    assert b"the cluster has state: stop the workers" in refused[2]
    with WorkerProcess(cluster.env, tmp_path) as worker:
        worker.wait_for(PARTITIONS, 2)
        busy = cluster.tidegate("warm", str(other), "--replace")
        assert worker.stop() == 0
    assert (busy[0], b"1 worker of" in busy[2]) == (2, True)
    cluster.output("warm", str(other), "--replace")
    known, forgotten = (cluster.explain(network) for network in ("192.0.2.1", "192.0.2.9"))
    assert (known["past"]["accepted"], forgotten["past"]) == (3, None)


def test_warm_refuses_events_that_the_topic_has(cluster: Cluster, tmp_path: Path) -> None:
    logs = tmp_path / "logs.ndjson"
    logs.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1"}\n{"ts":1764000009000,"ip":"192.0.2.1"}\n')
    reported = tmp_path / "reported.ndjson"
    reported.write_bytes(b'{"ts":1764000005000,"ip":"192.0.2.1"}\n')
    cluster.output("produce", str(reported))
    refused = cluster.tidegate("warm", str(logs))
    assert refused[0] == 2
    assert b"pass --until 1764000004999" in refused[2]
    cluster.output("warm", str(logs), "--until", "1764000004999")
    work(cluster.env, tmp_path, 2)
    assert cluster.explain("192.0.2.1")["past"]["accepted"] == 2


def test_warm_reads_mail_server_logs(cluster: Cluster, tmp_path: Path) -> None:
    bodies = (f"{verb} from unknown[192.0.2.{i}]" for i in (1, 2) for verb in ("connect", "disconnect"))
    log = file_of(tmp_path, syslog_lines(bodies, program="postfix/smtpd[7]: "))
    cluster.output("warm", str(log), "--format", "postfix", "--year", "2024", "--time-zone", "UTC")
    past = cluster.explain("192.0.2.2")["past"]
    assert past["first_seen_ms"] == 1_714_557_602_000
