"""The worker's HTTP beside a real Kafka: metrics, status and health; a taken place costs nothing but the page."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.local import EmbeddedBroker
from engine.stream.metrics import METRICS
from tests.system.edges import free_port
from tests.system.workers import WAIT_S, WorkerProcess, environment, tidegate

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

EVENTS = 4_000
BURST_IP = "198.51.100.7"


def lines(now_ms: int) -> bytes:
    """Some senders' ordinary hour, and a newcomer's burst."""
    usual = [
        {"ts": now_ms - 3_000_000 + 600 * i, "ip": f"192.0.2.{i % 200}", "messages": 1, "recipients": 1}
        for i in range(EVENTS)
    ]
    burst = [{"ts": now_ms - 400_000 + i, "ip": BURST_IP, "messages": 1, "recipients": 1} for i in range(EVENTS)]
    return b"\n".join(orjson.dumps(event) for event in [*usual, *burst]) + b"\n"


class Asked:
    """A worker's HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        """The body of a good answer."""
        status, body = self.get(path)
        assert status == 200, body
        return orjson.loads(body)


@pytest.fixture(scope="module")
def site(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asked, dict[str, str]]]:
    """A worker that has read the events, and the environment of its site."""
    port, folder = free_port(), tmp_path_factory.mktemp("web")
    env = environment(broker.bootstrap, "web-", 2, WORKER_HTTP=f"127.0.0.1:{port}")
    assert tidegate("topics", "--create", env=env).returncode == 0
    sent = tidegate("produce", "-", env=env, stdin=lines(int(time.time() * 1000)))
    assert sent.returncode == 0, sent.stderr.decode()
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(2, 2 * EVENTS)
        yield Asked(port), env
        assert worker.stop() == 0


def test_metrics_are_those_of_what_was_read(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    status, body = asked.get("/metrics")
    assert status == 200
    found = {line.split(" ")[0]: float(line.split(" ")[1]) for line in body.decode().splitlines() if line[0] != "#"}
    counted = sum(value for name, value in found.items() if name.startswith("tidegate_events_total"))
    assert counted == 2 * EVENTS
    assert sum(value for name, value in found.items() if name.startswith("tidegate_consumer_lag_events")) == 0
    assert sum(value for name, value in found.items() if name.startswith("tidegate_throttles_total")) > 0
    shown = {name.partition("{")[0].removesuffix("_bucket") for name in found}
    assert {metric.exposed for metric in METRICS} - shown == {"tidegate_standby_keys"}


def test_a_worker_that_is_well_says_so(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    assert asked.json("/health") == {"well": True, "complaints": []}
    status = asked.json("/v1/status")
    assert (status["events"], set(status["partitions"])) == (2 * EVENTS, {"0", "1"})
    assert all(found["lag"] == 0 for found in status["partitions"].values())


def test_a_taken_place_costs_a_worker_its_page_alone(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(broker.bootstrap, prefix, 1, WORKER_HTTP=f"127.0.0.1:{port}")
        assert tidegate("topics", "--create", env=env).returncode == 0
        with WorkerProcess(env, tmp_path) as worker:
            worker.wait_for(1, 0)
            assert worker.stop() == 0
    assert f"no page, status or metrics at 127.0.0.1:{port}" in (tmp_path / "worker.log").read_text()


def test_status_and_top_ask_it(site: tuple[Asked, dict[str, str]]) -> None:
    asked, env = site
    told = tidegate("status", "--json", env=env)
    assert told.returncode == 0, told.stderr.decode()
    assert orjson.loads(told.stdout)["events"] == 2 * EVENTS
    shown = tidegate("top", "--once", "--url", asked.url, env=env)
    assert shown.returncode == 0, shown.stderr.decode()
    assert b"senders" in shown.stdout
