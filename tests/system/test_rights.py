"""Each role works on a cluster with an authorizer with exactly the rights that `tidegate topics --acls` prints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from benchmarks.harness.ports import free_port
from engine.config.load import load_settings
from tests.support.certificates import issue
from tests.support.edges import EdgeProcess, Smtpd, read_events
from tests.support.secured import SecuredBroker, grant, secured_broker
from tests.support.workers import WorkerProcess, environment, tidegate
from topics.contracts import ALL

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PREFIX = "mx-"
ROLES = ("worker", "edge", "operator", "producer")
WRITTEN = {
    "worker": {"decisions", "dead-letters", "tidegate-state", "notices"},
    "edge": {"connections", "edges"},
    "operator": {"exemptions"},
    "producer": {"connections"},
}
NOT_READ_BY_EDGES = ("connections", "tidegate-state", "dead-letters", "notices")
COMMANDS = (
    "topics --check",
    "check",
    "connector add 198.51.100.0/24 --owner ACME --reason test",
    "connector list",
    "release 203.0.113.7 --grace 1h --reason test",
    "audit",
    "decisions --no-follow",
    "explain 192.0.2.1",
)


@pytest.fixture(scope="module")
def secured(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """Run a secured broker whose four users have the rights of their roles; the operator has created the topics."""
    with secured_broker(tmp_path_factory.mktemp("secured"), ROLES) as broker:
        grant(broker, PREFIX, {role: f"User:{role}" for role in ROLES})
        created = tidegate("topics", "--create", env=env_of(broker, "operator"))
        assert created.returncode == 0, created.stdout + created.stderr
        yield broker


def env_of(secured: SecuredBroker, role: str, **more: object) -> dict[str, str]:
    return environment(secured.admin, PREFIX, 2, **{**secured.scram(role), **more})


def client_options(secured: SecuredBroker, role: str) -> dict[str, object]:
    return load_settings(None, env_of(secured, role), {}).kafka.client_options()


async def start(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Start a client, and stop it."""
    try:
        await asyncio.wait_for(client.start(), 20)
    finally:
        await client.stop()


async def read_one(consumer: AIOKafkaConsumer) -> None:
    """Start a consumer, read a record, and stop the consumer."""
    try:
        await asyncio.wait_for(consumer.start(), 20)
        await asyncio.wait_for(consumer.getone(), 10)
    finally:
        await consumer.stop()


def test_worker_edge_and_producer_work_with_their_rights(secured: SecuredBroker, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    events = b"".join(orjson.dumps({"ts": now_ms + i, "ip": f"192.0.2.{i % 9}"}) + b"\n" for i in range(100))
    poison = confluent_kafka.Producer({"bootstrap.servers": secured.admin})
    poison.produce(f"{PREFIX}connections", b"no event", partition=0)
    poison.flush(10)

    produced = tidegate("produce", "-", env=env_of(secured, "producer"), stdin=events)
    with (
        WorkerProcess(env_of(secured, "worker", WORKER_HTTP=f"127.0.0.1:{free_port()}"), tmp_path) as worker,
        EdgeProcess(env_of(secured, "edge"), tmp_path / "edge") as edge,
    ):
        smtpd = Smtpd(edge.policy)
        answer = smtpd.ask("203.0.113.9", 1025, "1")
        smtpd.close()
        edge.wait_for(lambda figures: figures["fresh"] == 1 and figures["events_delivered_total"] == 1)
        worker.wait_for(2, 101)
        stopped = edge.stop(), worker.stop()

    assert (produced.returncode, produced.stderr.count(b"100 events")) == (0, 1), produced.stderr
    assert (answer, stopped) == ("DUNNO", (0, 0))
    assert len(read_events(secured.admin, f"{PREFIX}dead-letters", 1)) == 1


def test_operators_commands_work_with_their_rights(secured: SecuredBroker) -> None:
    env = env_of(secured, "operator")

    outcomes = {command: tidegate(*command.split(), env=env) for command in COMMANDS}

    failed = {command: done.stdout + done.stderr for command, done in outcomes.items() if done.returncode}
    assert failed == {}


@pytest.mark.parametrize("role", ROLES)
async def test_topics_of_other_roles_refuse_records(secured: SecuredBroker, role: str) -> None:
    producer = AIOKafkaProducer(**client_options(secured, role))
    await producer.start()
    refused = set()
    try:
        for topic in ALL:
            if topic.name not in WRITTEN[role]:
                try:
                    await asyncio.wait_for(producer.send_and_wait(PREFIX + topic.name, b"x", partition=0), 20)
                except TopicAuthorizationFailedError:
                    refused.add(topic.name)
    finally:
        await producer.stop()

    assert refused == {topic.name for topic in ALL} - WRITTEN[role]


@pytest.mark.parametrize("topic", NOT_READ_BY_EDGES)
async def test_edge_reads_no_topics_but_its_own(secured: SecuredBroker, topic: str) -> None:
    consumer = AIOKafkaConsumer(PREFIX + topic, auto_offset_reset="earliest", **client_options(secured, "edge"))

    with pytest.raises(TopicAuthorizationFailedError):
        await read_one(consumer)


async def test_edge_can_fence_no_worker(secured: SecuredBroker) -> None:
    producer = AIOKafkaProducer(transactional_id=f"{PREFIX}app-state-0", **client_options(secured, "edge"))

    with pytest.raises(TransactionalIdAuthorizationFailed):
        await start(producer)


async def test_operator_can_join_no_workers_group(secured: SecuredBroker) -> None:
    options = client_options(secured, "operator")
    consumer = AIOKafkaConsumer(f"{PREFIX}connections", group_id=f"{PREFIX}app", **options)

    with pytest.raises(GroupAuthorizationFailedError):
        await read_one(consumer)


def test_command_without_rights_names_them(secured: SecuredBroker) -> None:
    refused = tidegate("connector", "list", env=env_of(secured, "producer"))

    assert refused.returncode == 2
    assert b"no right to describe it" in refused.stderr
    assert refused.stderr.count(b"\n") == 1


def test_client_certificate_identifies_a_client(secured: SecuredBroker) -> None:
    grant(secured, PREFIX, {"operator": "User:CN=certified"})
    client = issue(secured.ca, "certified")

    checked = tidegate("topics", "--check", env=environment("", PREFIX, 2, **secured.mutual(client)))
    refused = tidegate("topics", "--check", env=environment("", PREFIX, 2, **secured.mutual(None)))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1), refused.stderr


def test_worker_counts_events_with_a_token(secured: SecuredBroker, tmp_path: Path) -> None:
    grant(secured, "token-", dict.fromkeys(ROLES, "User:tokened"))
    env = environment("", "token-", 2, **secured.oauth("tokened"))
    event = orjson.dumps({"ts": int(time.time() * 1000), "ip": "192.0.2.1"}) + b"\n"

    created = tidegate("topics", "--create", env=env)
    produced = tidegate("produce", "-", env=env, stdin=event)
    with WorkerProcess(env, tmp_path) as worker:
        worker.wait_for(2, 1)
        stopped = worker.stop()

    assert (created.returncode, produced.returncode, stopped) == (0, 0, 0), created.stderr + produced.stderr
