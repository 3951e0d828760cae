"""The worker on a real Kafka: the decisions of a replay, every event counted once after any stop, poison set aside."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from benchmarks.harness.ports import free_port
from benchmarks.harness.topic_space import TopicSpace, delete_topics
from engine.broker import EmbeddedBroker
from engine.demo.simulate import MTA_NAMES, simulate
from tests.support.workers import WAIT_S, WorkerProcess, environment, tidegate, until
from topics.columns.write import Drafts, texts, write_lines
from topics.keys import key_of, key_text

pytestmark = pytest.mark.timeout(180)

END_MS = 1_764_547_200_000


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small simulated month as NDJSON."""
    month = simulate(5, END_MS, 0.02)
    out = np.empty(200 * len(month.ts_ms), np.uint8)
    done, size = write_lines(Drafts(*month[:6]), 0, texts(list(MTA_NAMES)), out)
    assert done == len(month.ts_ms)
    path = tmp_path_factory.mktemp("events") / "events.ndjson"
    path.write_bytes(out[:size].tobytes())
    return path


def _halves(events: Path) -> tuple[bytes, bytes, int]:
    lines = events.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    return b"".join(lines[:middle]), b"".join(lines[middle:]), len(lines)


def _by_source(lines: bytes) -> dict[tuple[Any, ...], set[bytes]]:
    """Return the decisions by identity; equal repeats count once."""
    decisions: dict[tuple[Any, ...], set[bytes]] = {}
    for line in lines.splitlines():
        decision = orjson.loads(line)
        source = decision["source"]
        identity = (decision["network"], decision["verdict"], source["partition"], source["offset"])
        decisions.setdefault(identity, set()).add(line)
    return decisions


def _decisions(env: dict[str, str]) -> dict[tuple[Any, ...], set[bytes]]:
    shown = tidegate("decisions", "--no-follow", "--json", env=env)
    assert shown.returncode == 0, shown.stderr.decode()
    return _by_source(shown.stdout)


def _replayed(events: Path, env: dict[str, str]) -> dict[tuple[Any, ...], set[bytes]]:
    shown = tidegate("replay", str(events), "--decisions", "-", env=env)
    assert shown.returncode == 0, shown.stderr.decode()
    return _by_source(shown.stdout)


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    """Create topics for this test, with four partitions, and return the environment."""
    return _created(broker, prefix, 4)


def _created(broker: EmbeddedBroker, prefix: str, partitions: int) -> dict[str, str]:
    env = environment(broker.bootstrap, prefix, partitions)
    created = tidegate("topics", "--create", env=env)
    assert created.returncode == 0, created.stderr.decode()
    return env


def _produce(env: dict[str, str], text: bytes, *options: str) -> None:
    sent = tidegate("produce", "-", *options, env=env, stdin=text)
    assert sent.returncode == 0, sent.stderr.decode()


@pytest.mark.parametrize(("partitions", "codec"), [(1, "zstd"), (8, "lz4")])
def test_worker_and_replay_make_byte_equal_decisions(
    broker: EmbeddedBroker, prefix: str, events: Path, tmp_path: Path, partitions: int, codec: str
) -> None:
    env = _created(broker, prefix, partitions)
    text = events.read_bytes()
    _produce(env, text, "--codec", codec)
    with WorkerProcess(env, tmp_path) as worker:
        status = worker.wait_for(partitions, text.count(b"\n"))
        assert worker.stop() == 0
    assert (status["events"], status["poison"], status["miskeyed"]) == (text.count(b"\n"), 0, 0)
    expected = _replayed(events, env)
    assert len(expected) > 100
    assert _decisions(env) == expected


@pytest.mark.parametrize("partitions", [1, 8])
def test_worker_and_replay_make_equal_decisions_on_a_real_trace(
    broker: EmbeddedBroker, prefix: str, shared: Path, tmp_path: Path, partitions: int
) -> None:
    trace = shared / "evaluation" / "traces" / "dev-kdent.events.ndjson.gz"
    env = _created(broker, prefix, partitions)
    sent = tidegate("produce", str(trace), env=env)
    assert sent.returncode == 0, sent.stderr.decode()
    with WorkerProcess(env, tmp_path) as worker:
        worker.wait_for(partitions, 4_064)
        assert worker.stop() == 0
    expected = _replayed(trace, env)
    assert len(expected) > 20
    assert _decisions(env) == expected


def test_stopped_worker_continues_after_its_last_event(cluster: dict[str, str], events: Path, tmp_path: Path) -> None:
    first, second, count = _halves(events)
    _produce(cluster, first)
    with WorkerProcess(cluster, tmp_path) as worker:
        worker.wait_for(4, first.count(b"\n"), durable=False)
        assert worker.stop() == 0
    _produce(cluster, second)
    with WorkerProcess(cluster, tmp_path) as worker:
        status = worker.wait_for(4, count)
        assert worker.stop() == 0
    assert status["events"] == count
    assert status["since_start"]["records"] == second.count(b"\n"), "no event is read twice"
    assert _decisions(cluster) == _replayed(events, cluster)


def test_killed_worker_counts_every_event_once(cluster: dict[str, str], events: Path, tmp_path: Path) -> None:
    cluster["TIDEGATE_WORKER_INSTANCE_ID"] = "one"  # static membership: no wait for the dead one's session
    first, second, count = _halves(events)
    _produce(cluster, first)
    for text in (b"", second):
        with WorkerProcess(cluster, tmp_path) as worker:
            worker.wait_for(4, first.count(b"\n") if text else 1, durable=False)
            worker.kill()
        if text:
            _produce(cluster, text)
    with WorkerProcess(cluster, tmp_path) as worker:
        status = worker.wait_for(4, count)
        assert worker.stop() == 0
    assert status["events"] == count
    assert _decisions(cluster) == _replayed(events, cluster)


def test_newer_worker_fences_the_older_one(cluster: dict[str, str], tmp_path: Path) -> None:
    _produce(cluster, b'{"ts":1764000000000,"ip":"192.0.2.1"}\n')
    other = {**cluster, "TIDEGATE_WORKER_SESSION_TIMEOUT_S": "60"}
    old_folder, new_folder = tmp_path / "old", tmp_path / "new"
    old_folder.mkdir()
    new_folder.mkdir()
    with WorkerProcess(other, old_folder) as old:
        old.wait_for(4, 1)

        # the same transactional ids from another group: as for a zombie whose partitions have moved
        async def take_over() -> None:
            for partition in range(4):
                producer = AIOKafkaProducer(
                    bootstrap_servers=cluster["TIDEGATE_KAFKA_BOOTSTRAP"],
                    transactional_id=f"{cluster['TIDEGATE_WORKER_APP_ID']}-state-{partition}",
                )
                await producer.start()
                await producer.stop()

        asyncio.run(take_over())
        _produce(cluster, b'{"ts":1764000000001,"ip":"192.0.2.1"}\n')
        assert old.process.wait(30) == 2
        assert "taken over by another worker" in Path(old.log.name).read_text()


def test_poison_goes_to_the_dead_letters_and_the_rest_is_applied(cluster: dict[str, str], tmp_path: Path) -> None:
    bootstrap, topic = cluster["TIDEGATE_KAFKA_BOOTSTRAP"], cluster["TIDEGATE_TOPICS_PREFIX"] + "connections"
    values = [b'{"ts":1764000000000,"ip":"192.0.2.1"}', b"no JSON", b'{"ts":"x","ip":"192.0.2.1"}', None,
              '{"ts":1764000000001,"ip":"192.0.2.1","helo":"müller"}'.encode()]  # fmt: skip
    outside = kafka.KafkaProducer(bootstrap_servers=bootstrap)
    for value in values:
        outside.send(topic, value, key=b"192.0.2.1", timestamp_ms=1_764_000_000_000)
    outside.close()
    with WorkerProcess(cluster, tmp_path) as worker:
        status = worker.wait_for(4, 2)
        assert worker.stop() == 0
    assert (status["events"], status["poison"], status["since_start"]["slow"]) == (2, 3, 3)
    letters = _read(bootstrap, cluster["TIDEGATE_TOPICS_PREFIX"] + "dead-letters", 3)
    by_reason = {orjson.loads(letter)["reason"]: orjson.loads(letter) for letter in letters}
    assert set(by_reason) == {"not JSON", "ts not an integer", "null value"}
    assert base64.b64decode(by_reason["not JSON"]["value_base64"]) == b"no JSON"
    assert by_reason["not JSON"]["source"]["offset"] == 1


def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    found: list[bytes] = []
    deadline_s = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline_s:
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message.value() or b"")
    reader.close()
    return found


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_events_of_other_producers_are_read_and_keyed_alike(
    cluster: dict[str, str], tmp_path: Path, codec: str
) -> None:
    bootstrap, topic = cluster["TIDEGATE_KAFKA_BOOTSTRAP"], cluster["TIDEGATE_TOPICS_PREFIX"] + "connections"
    outside = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "partitioner": "murmur2_random"}
    )
    addresses = [f"192.0.2.{i}" for i in range(200)] + [f"2001:db8:{i:x}::25" for i in range(200)]
    for i, ip in enumerate(addresses):
        value = orjson.dumps({"ts": 1_764_000_000_000 + i, "ip": ip, "helo": "mail.example.org"})
        outside.produce(topic, value, key=key_text(key_of(ip)).encode(), timestamp=1_764_000_000_000 + i)
    outside.flush()
    with WorkerProcess(cluster, tmp_path) as worker:
        status = worker.wait_for(4, len(addresses))
        assert worker.stop() == 0
    assert (status["events"], status["keys"], status["miskeyed"]) == (400, 400, 0)


def test_wrong_keys_are_counted(cluster: dict[str, str], tmp_path: Path) -> None:
    bootstrap, topic = cluster["TIDEGATE_KAFKA_BOOTSTRAP"], cluster["TIDEGATE_TOPICS_PREFIX"] + "connections"
    outside = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for i in range(40):
        value = orjson.dumps({"ts": 1_764_000_000_000 + i, "ip": f"192.0.2.{i}"})
        outside.produce(topic, value, partition=0, timestamp=1_764_000_000_000)
    outside.flush()
    with WorkerProcess(cluster, tmp_path) as worker:
        assert worker.wait_for(4, 40)["miskeyed"] > 20
        assert worker.stop() == 0


def test_faust_command_runs_the_same_app(cluster: dict[str, str], tmp_path: Path) -> None:
    _produce(cluster, b'{"ts":1764000000000,"ip":"192.0.2.1"}\n')
    command = [sys.executable, "-m", "faust", "-A", "engine.service.worker", "worker", "-l", "warn"]
    with WorkerProcess(cluster, tmp_path, command) as worker:
        assert worker.wait_for(4, 1)["events"] == 1
        assert worker.stop() == 0


def test_topic_with_another_partition_count_is_refused(cluster: dict[str, str]) -> None:
    refused = tidegate("worker", env={**cluster, "TIDEGATE_TOPICS_PARTITIONS": "6"})
    assert refused.returncode == 2
    message = refused.stderr.decode().strip().splitlines()[-1]
    assert message.startswith("tidegate: topic ")
    assert "has 4 partitions, this configuration expects 6" in message


def test_partitions_added_to_a_running_worker_end_it_with_the_remedy(
    cluster: dict[str, str], broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    page = f"127.0.0.1:{free_port()}"
    with WorkerProcess({**cluster, "TIDEGATE_WORKER_HTTP": page}, tmp_path) as worker:
        worker.wait_for(4, 0)

        for change in admin.create_partitions([NewPartitions(f"{prefix}connections", 6)]).values():
            change.result(10)
        until(lambda: bool(worker.status["ending"]), "a report")
        health = tidegate("status", "--url", f"http://{page}", env=cluster)

        assert (health.returncode, b"is about to end" in health.stdout) == (1, True)
        assert worker.process.wait(WAIT_S) == 2
    (line,) = [line for line in (tmp_path / "worker.log").read_text().splitlines() if line.startswith("tidegate: ")]
    assert "has 6 partitions, this configuration expects 4: set topics.partitions = 6" in line


def test_missing_broker_is_an_error_of_one_line(prefix: str) -> None:
    refused = tidegate("worker", env=environment("127.0.0.1:1", prefix, 4))
    assert refused.returncode == 2
    assert len(refused.stderr.decode().strip().splitlines()) == 1
    assert "127.0.0.1:1" in refused.stderr.decode()


def test_standby_takes_over_without_reading_the_state_again(
    cluster: dict[str, str], events: Path, tmp_path: Path
) -> None:
    first, second, count = _halves(events)
    _produce(cluster, first)
    (tmp_path / "two").mkdir()
    with WorkerProcess(cluster, tmp_path) as one:
        keys = one.wait_for(4, first.count(b"\n"))["keys"]
        with WorkerProcess(cluster, tmp_path / "two") as two:
            until(
                lambda: len(one.status["standbys"]) == len(two.status.get("standbys", {})) == 2,
                "standbys on both sides",
            )
            until(lambda: _keys(one) + _keys(two) >= 2 * keys, "standbys that know every sender")
            standbys = set(two.status["standbys"])
            one.kill()
            _produce(cluster, second)
            shards = two.wait_for(4, count)["partitions"]
            assert two.stop() == 0
    assert sum(shards[number]["restored_rows"] for number in standbys) < keys / 20
    assert sum(shard["keys"] for shard in shards.values()) >= keys
    assert _decisions(cluster) == _replayed(events, cluster)


def _keys(worker: WorkerProcess) -> int:
    """Return the senders in a worker's partitions and standbys."""
    status = worker.status
    return sum(int(each["keys"]) for kind in ("partitions", "standbys") for each in status[kind].values())


def test_topic_that_was_created_again_is_refused(cluster: dict[str, str], events: Path, tmp_path: Path) -> None:
    text = events.read_bytes()
    _produce(cluster, text)
    with WorkerProcess(cluster, tmp_path) as worker:
        worker.wait_for(4, text.count(b"\n"))
        assert worker.stop() == 0
    space = TopicSpace(cluster["TIDEGATE_KAFKA_BOOTSTRAP"], cluster["TIDEGATE_TOPICS_PREFIX"])
    delete_topics(space, ["connections"])
    assert tidegate("topics", "--create", env=cluster).returncode == 0
    _produce(cluster, b"".join(text.splitlines(keepends=True)[:400]))
    refused = tidegate("worker", env=cluster)
    assert refused.returncode == 2
    line = refused.stderr.decode().strip().splitlines()[-1]
    assert "the topic was created again or has lost events" in line
