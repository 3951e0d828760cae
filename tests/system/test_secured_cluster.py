"""All commands work on a cluster that asks for credentials, and say what is wrong when they have none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.workers import WorkerProcess, environment, tidegate

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def secured(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a listener that accepts SASL PLAIN only. The broker's own listener stays as it is."""
    clients, controller, port = free_port(), free_port(), free_port()
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_tidegate="{PASSWORD}";'
    settings = {
        "listeners": f"CLIENTS://127.0.0.1:{clients},SECURED://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{clients},SECURED://127.0.0.1:{port}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,SECURED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": login,
    }
    with EmbeddedBroker(tmp_path_factory.mktemp("secured"), port=clients, settings=settings):
        yield f"127.0.0.1:{port}"


def credentials(password: str = PASSWORD) -> dict[str, object]:
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "tidegate",
        "KAFKA_SASL_PASSWORD": password,
    }


def test_worker_counts_events_on_a_secured_cluster(secured: str, prefix: str, tmp_path: Path) -> None:
    env = environment(secured, prefix, 2, **credentials())
    now_ms = int(time.time() * 1000)
    events = b"".join(orjson.dumps({"ts": now_ms + i, "ip": f"192.0.2.{i % 9}"}) + b"\n" for i in range(100))

    created = tidegate("topics", "--create", env=env)
    produced = tidegate("produce", "-", env=env, stdin=events)
    with WorkerProcess(env, tmp_path) as worker:
        counted = worker.wait_for(2, 100)
        stopped = worker.stop()

    assert (created.returncode, produced.returncode, stopped) == (0, 0, 0), created.stderr + produced.stderr
    assert counted["events"] == 100


def test_wrong_password_is_one_line(secured: str, prefix: str) -> None:
    refused = tidegate("topics", env=environment(secured, prefix, 2, **credentials("wrong-horse")))

    assert refused.returncode == 2
    assert refused.stderr.startswith(b"tidegate: ")
    assert refused.stderr.count(b"\n") == 1
    assert b"wrong-horse" not in refused.stderr
