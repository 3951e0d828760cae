"""The postmaster's questions put to a cluster get the answers that the recorded events give."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.broker import EmbeddedBroker
from engine.cli import main
from engine.kafka.topic_admin import recreate
from tests.support.logs import file_of, stamped
from tests.support.months import write_month
from tests.support.workers import WorkerProcess, environment
from topics.contracts import UNLIMITED, contracts
from topics.keys import key_of, key_text, network_text
from topics.partitioner import partition_of

pytestmark = pytest.mark.timeout(180)
PARTITIONS = 4


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_month(tmp_path_factory.mktemp("month") / "events.ndjson")


@dataclass(frozen=True)
class Cluster:
    """Topics of a test's own, and the commands put to them, within this process: a start costs more than an answer."""

    env: dict[str, str]
    captured: pytest.CaptureFixture[bytes]

    def tidegate(self, *arguments: str) -> tuple[int, bytes, bytes]:
        """Exit status, standard output, standard error."""
        self.captured.readouterr()
        status = main(list(arguments))
        return status, *self.captured.readouterr()

    def said(self, *arguments: str) -> bytes:
        """The output of a command that must go well."""
        status, out, err = self.tidegate(*arguments)
        assert status == 0, err.decode()
        return out

    def explain(self, network: str, *arguments: str) -> dict[str, Any]:
        """The explanation's JSON."""
        return dict(orjson.loads(self.said("explain", network, *arguments, "--json")))

    def decisions(self) -> list[dict[str, Any]]:
        """All on the topic."""
        return decisions_of(self.said("decisions", "--no-follow", "--json"))


@pytest.fixture
def cluster(
    broker: EmbeddedBroker, prefix: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Cluster:
    env = environment(broker.bootstrap, prefix, PARTITIONS)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    made = Cluster(env, capsysbinary)
    made.said("topics", "--create")
    return made


def work(env: dict[str, str], folder: Path, events: int) -> None:
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(PARTITIONS, events)
        assert worker.stop() == 0


def decisions_of(output: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_a_cluster_explains_and_draws_as_the_file_does_but_cannot_go_back(
    cluster: Cluster, month: Path, tmp_path: Path
) -> None:
    cluster.said("produce", str(month))
    work(cluster.env, tmp_path, month.read_bytes().count(b"\n"))
    throttles = cluster.decisions()
    end_ms = orjson.loads(month.read_bytes().splitlines()[-1])["ts"] + 1000
    live = [found for found in throttles if found["verdict"] == "throttle" and found["until"] > end_ms]
    last = max(live, key=lambda found: found["issued"])
    network, at = last["network"], str(end_ms)
    theirs = cluster.explain(network, "--at", at)
    ours = cluster.explain(network, str(month), "--at", at)
    assert theirs["decisions"][-1] == ours["decisions"][-1] == last
    for answer in (theirs, ours):
        del answer["decisions"]  # of the superseded ones compaction may have left some
    assert theirs == ours
    assert theirs["throttled"] == (last["until"] > int(at))
    drawn = [cluster.said("plot", network, "--from", source, "--out", "-") for source in ("topic", str(month))]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]
    verified = cluster.said("explain", network, "--verify")
    count, _, of = (
        verified.decode().partition(" decisions are what the events lead to, byte for byte")[0].partition(" of ")
    )
    assert count == of > "0"
    refused = cluster.tidegate("explain", network, "--at", "2025-11-01")
    assert refused[0] == 2
    assert b"can't go back: give EVENTS" in refused[2]


@dataclass(frozen=True)
class Sent:
    """A month sent in pieces, each durable before the next: ``marks``, by piece: the offset of the partition's checkpoint
    behind it, -1 before the first; and a throttle with its sender's events, as (line, offset), in the piece that led to it."""

    lines: list[bytes]
    marks: list[int]
    throttle: dict[str, Any]
    own: list[tuple[int, int]]
    piece: int

    @property
    def before(self) -> list[tuple[int, int]]:
        """The sender's events of the piece up to the throttle."""
        first, last = self.marks[self.piece], self.throttle["source"]["offset"]
        return [(line, offset) for line, offset in self.own if first < offset < last]


PIECES = 5


def sent_in_pieces(cluster: Cluster, month: Path, folder: Path) -> Sent:
    """Send it, and have it worked through."""
    lines = month.read_bytes().splitlines(keepends=True)
    cuts = [len(lines) * number // PIECES for number in range(PIECES)] + [len(lines)]
    durable = [dict.fromkeys(map(str, range(PARTITIONS)), -1)]
    with WorkerProcess(cluster.env, folder) as worker:
        for first, last in pairwise(cuts):
            (folder / "piece.ndjson").write_bytes(b"".join(lines[first:last]))
            cluster.said("produce", str(folder / "piece.ndjson"))
            status = worker.wait_for(PARTITIONS, last)
            durable.append({number: shard["durable"] for number, shard in status["partitions"].items()})
        assert worker.stop() == 0
    own = by_sender(lines)
    for throttle in cluster.decisions():
        source = throttle["source"]
        if throttle["verdict"] == "throttle" and throttle["reason"] == "volume" and throttle["network"] in own:
            marks = [found[str(source["partition"])] for found in durable]
            piece = max(number for number in range(PIECES) if marks[number] < source["offset"])
            found = Sent(lines, marks, throttle, own[throttle["network"]], piece)
            if len(found.before) >= 8:
                return found
    pytest.fail("no such throttle in the month")


def by_sender(lines: list[bytes]) -> dict[str, list[tuple[int, int]]]:
    """The lines of each network, with the offsets that they get."""
    found: dict[str, list[tuple[int, int]]] = {}
    dealt = [0] * PARTITIONS
    for number, line in enumerate(lines):
        key = key_of(orjson.loads(line)["ip"])
        partition = partition_of(key_text(key).encode(), PARTITIONS)
        found.setdefault(network_text(key), []).append((number, dealt[partition]))
        dealt[partition] += 1
    return found


def verified(cluster: Cluster, sent: Sent, lines: list[bytes], folder: Path) -> dict[str, Any]:
    """What is said of the throttle when its topic holds these lines instead."""
    (folder / "other.ndjson").write_bytes(b"".join(lines))
    prefix, bootstrap = (cluster.env[f"TIDEGATE_{name}"] for name in ("TOPICS_PREFIX", "KAFKA_BOOTSTRAP"))
    asyncio.run(recreate(bootstrap, contracts(prefix, PARTITIONS, UNLIMITED, 1)[0], {"bootstrap_servers": bootstrap}))
    cluster.said("produce", str(folder / "other.ndjson"))
    return differing(cluster, sent)


def differing(cluster: Cluster, sent: Sent) -> dict[str, Any]:
    status, out, err = cluster.tidegate("explain", sent.throttle["network"], "--verify", "--json")
    assert (status, err) == (1, b"")
    (one,) = (one for one in orjson.loads(out)["differ"] if one["offset"] == sent.throttle["source"]["offset"])
    return dict(one)


def test_what_changed_on_a_cluster_is_found_between_two_checkpoints(
    cluster: Cluster, month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_in_pieces(cluster, month, tmp_path)
    first, last = sent.marks[sent.piece] + 1, sent.marks[sent.piece + 1]
    (early, early_offset), (late, late_offset) = sent.before[0], sent.before[-2]
    monkeypatch.setenv("TIDEGATE_MODEL_SENSITIVITY", "high")
    assert differing(cluster, sent)["changed"] == ["configuration"]
    monkeypatch.delenv("TIDEGATE_MODEL_SENSITIVITY")

    event = orjson.loads(sent.lines[late])
    more = orjson.dumps({**event, "messages": event.get("messages", 1) + 7}) + b"\n"
    said = verified(cluster, sent, [*sent.lines[:late], more, *sent.lines[late + 1 :]], tmp_path)
    assert (said["changed"], said["change"]["messages"], said["accepted"]) == (["own events"], 7, 7)
    assert said["offsets"][0] <= late_offset <= said["offsets"][1]
    assert late_offset in [suspect["offset"] for suspect in said["suspects"]]

    said = verified(cluster, sent, [*sent.lines[:late], *sent.lines[late + 1 :]], tmp_path)
    assert (said["changed"], said["accepted"]) == (["own events"], -event.get("messages", 1))
    assert said["change"]["messages"] == -event.get("messages", 1)
    assert said["offsets"][0] <= late_offset <= said["offsets"][1] <= sent.throttle["source"]["offset"]

    swapped = sent.lines.copy()
    swapped[early], swapped[late] = swapped[late], swapped[early]
    said = verified(cluster, sent, swapped, tmp_path)
    assert (said["changed"], said["change"], said["accepted"], said["rejected"]) == (["own events"], None, 0, 0)
    assert said["offsets"] == [first, min(last, sent.throttle["source"]["offset"])]
    assert {early_offset, late_offset} <= {event["offset"] for event in said["events"]}


def parted(month: Path, folder: Path, after_ms: int) -> tuple[Path, Path, list[int]]:
    """What is before a moment and the rest, as files, and how many events of the first part each partition gets."""
    lines = month.read_bytes().splitlines(keepends=True)
    first = [line for line in lines if stamp(line) <= after_ms]
    (folder / "first.ndjson").write_bytes(b"".join(first))
    dealt = [0] * PARTITIONS
    for line in first:
        dealt[partition_of(key_text(key_of(orjson.loads(line)["ip"])).encode(), PARTITIONS)] += 1
    (folder / "second.ndjson").write_bytes(b"".join(lines[len(first) :]))
    return folder / "first.ndjson", folder / "second.ndjson", dealt


def stamp(line: bytes) -> int:
    return int(orjson.loads(line)["ts"])


def from_offsets(decisions: list[dict[str, Any]], dealt: list[int]) -> list[bytes]:
    """Decisions with source offsets counted from the end of the first part; those before it have negative ones."""
    for decision in decisions:
        decision["source"]["offset"] -= dealt[decision["source"]["partition"]]
    return [orjson.dumps(decision) for decision in decisions]


def test_warmed_with_old_logs_a_worker_goes_on_as_if_it_had_seen_them(
    cluster: Cluster, month: Path, tmp_path: Path
) -> None:
    whole = decisions_of(cluster.said("replay", str(month), "--decisions", "-"))
    throttles = [decision for decision in whole if decision["verdict"] == "throttle"]
    first, second, dealt = parted(month, tmp_path, throttles[len(throttles) // 2]["issued"])
    cluster.said("warm", str(first))
    standing = cluster.decisions()
    assert {decision["source"]["offset"] for decision in standing} == {-1}
    cluster.said("produce", str(second))
    work(cluster.env, tmp_path, month.read_bytes().count(b"\n"))
    published = cluster.decisions()
    later = [line for line in from_offsets(whole, dealt) if orjson.loads(line)["source"]["offset"] >= 0]
    ours = [orjson.dumps(decision) for decision in published if decision not in standing]
    assert len(later) > 20
    assert sorted(ours) == sorted(later)
    told = {found["network"]: found for found in decisions_of(cluster.said("replay", str(first), "--decisions", "-"))}
    for decision in standing:
        assert {**decision, "source": None} == {**told[decision["network"]], "source": None}


def test_a_state_that_is_there_is_not_replaced_unasked(cluster: Cluster, tmp_path: Path) -> None:
    first, other = tmp_path / "first.ndjson", tmp_path / "other.ndjson"
    first.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":7}\n{"ts":1764000000001,"ip":"192.0.2.9"}\n')
    other.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1","messages":3}\n')
    cluster.said("warm", str(first))
    refused = cluster.tidegate("warm", str(other))
    assert refused[0] == 2
    assert b"the cluster has state already" in refused[2]
    with WorkerProcess(cluster.env, tmp_path) as worker:
        worker.wait_for(PARTITIONS, 2)
        busy = cluster.tidegate("warm", str(other), "--replace")
        assert worker.stop() == 0
    assert (busy[0], b"1 worker of" in busy[2]) == (2, True)
    cluster.said("warm", str(other), "--replace")
    known, forgotten = (cluster.explain(network) for network in ("192.0.2.1", "192.0.2.9"))
    assert (known["past"]["accepted"], forgotten["past"]) == (3, None)


def test_what_is_on_the_topic_is_not_counted_twice(cluster: Cluster, tmp_path: Path) -> None:
    logs = tmp_path / "logs.ndjson"
    logs.write_bytes(b'{"ts":1764000000000,"ip":"192.0.2.1"}\n{"ts":1764000009000,"ip":"192.0.2.1"}\n')
    reported = tmp_path / "reported.ndjson"
    reported.write_bytes(b'{"ts":1764000005000,"ip":"192.0.2.1"}\n')
    cluster.said("produce", str(reported))
    refused = cluster.tidegate("warm", str(logs))
    assert refused[0] == 2
    assert b"say --until 1764000004999" in refused[2]
    cluster.said("warm", str(logs), "--until", "1764000004999")
    work(cluster.env, tmp_path, 2)
    assert cluster.explain("192.0.2.1")["past"]["accepted"] == 2


def test_the_logs_of_a_mail_server_are_a_history(cluster: Cluster, tmp_path: Path) -> None:
    bodies = (f"{verb} from unknown[192.0.2.{i}]" for i in (1, 2) for verb in ("connect", "disconnect"))
    log = file_of(tmp_path, stamped(bodies, program="postfix/smtpd[7]: "))
    cluster.said("warm", str(log), "--format", "postfix", "--year", "2024", "--time-zone", "UTC")
    past = cluster.explain("192.0.2.2")["past"]
    assert past["first_seen_ms"] == 1_714_557_602_000
