"""An edge of two processes beside a real Kafka: one rate, one health, every event once, and one that dies comes back."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from benchmarks.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.edges import Decider, EdgeProcess, Smtpd
from tests.support.workers import environment, tidegate
from tests.system.test_edge import events

pytestmark = pytest.mark.timeout(240)

BURST, CLIENTS = 10, 24
BOTH = ("1", "2")


def of_both(figures: dict[str, float], name: str, why: str = "") -> list[float]:
    """A figure of each process; -1 of one that is silent."""
    labels = f',why="{why}"' if why else ""
    return [figures.get(f'{name}{{process="{number}"{labels}}}', -1.0) for number in BOTH]


def connected(edge: EdgeProcess) -> list[Smtpd]:
    """Policy connections, some to each process."""
    smtpds = [Smtpd(edge.policy) for _ in range(CLIENTS)]
    edge.wait_for(lambda figures: min(of_both(figures, "clients")) > 1 and sum(of_both(figures, "clients")) >= CLIENTS)
    return smtpds


def told(edge: EdgeProcess, ip: str, first_port: int) -> int:
    """How many of many messages from an address pass, over connections to both."""
    smtpds = connected(edge)
    actions = [
        smtpd.ask(ip, first_port + number, f"{first_port}.{number}.{message}")
        for number, smtpd in enumerate(smtpds)
        for message in range(BURST)
    ]
    for smtpd in smtpds:
        smtpd.close()
    assert all(action == "DUNNO" or action.startswith("451 4.7.500 ") for action in actions)
    return actions.count("DUNNO")


def test_two_processes_are_one_edge(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    env = environment(broker.bootstrap, prefix, 4)
    assert tidegate("topics", "--create", env=env).returncode == 0
    engine, path = Decider(broker.bootstrap, prefix), tmp_path / "readsocket"
    engine.throttle("192.0.2.7/32", burst=BURST)
    engine.throttle("192.0.2.8/32", burst=BURST)
    with EdgeProcess(env, tmp_path / "edge", PROCESSES=2, QUIET_MS=60_000, READSOCKET=f"unix:{path}") as edge:
        edge.wait_for(lambda figures: of_both(figures, "fresh") == [1, 1] and of_both(figures, "decisions") == [2, 2])
        assert told(edge, "192.0.2.7", 1000) == BURST
        assert [said(path, "192.0.2.7") for _ in range(8)] == ["451"] * 8
        edge.wait_for(lambda figures: sum(of_both(figures, "events_delivered_total")) == CLIENTS + 8)

        assert edge.health()["fresh"]
        os.kill(max(processes(edge)), signal.SIGKILL)
        edge.wait_for(
            lambda figures: 0 in of_both(figures, "answers_total", "within") and of_both(figures, "fresh") == [1, 1]
        )
        assert len(processes(edge)) == len(BOTH)
        assert "it is started again" in Path(edge.log.name).read_text()
        assert told(edge, "192.0.2.8", 2000) == BURST
        assert told(edge, "203.0.113.9", 3000) == CLIENTS * BURST
        living = processes(edge)
        assert edge.stop() == 0
    assert not any(map(psutil.pid_exists, living))
    found = [
        orjson.loads(got.value() or b"") for got in events(broker.bootstrap, prefix + "connections", 3 * CLIENTS + 8)
    ]
    assert counted(found, "192.0.2.7") == (CLIENTS + 8, CLIENTS * BURST + 8)
    assert counted(found, "192.0.2.8") == (CLIENTS, CLIENTS * BURST)
    assert counted(found, "203.0.113.9") == (CLIENTS, CLIENTS * BURST)
    assert {event["mta"] for event in found} == {"edge"}


def processes(edge: EdgeProcess) -> list[int]:
    return [child.pid for child in psutil.Process(edge.process.pid).children()]


def said(path: Path, ip: str) -> str:
    """The code of the answer over a UNIX socket, which all processes have."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(str(path))
        asking.sendall(f"{ip}\n".encode())
        return asking.recv(1000).decode()[:3]


def counted(found: list[dict[str, Any]], ip: str) -> tuple[int, int]:
    """Events of an address, and messages offered in them."""
    ours = [event for event in found if event["ip"] == ip]
    return len(ours), sum(event["messages"] + event.get("deferred_messages", 0) for event in ours)


def test_what_one_process_can_not_do_ends_all_in_a_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
        env |= {"TIDEGATE_EDGE_STATE_DIR": str(tmp_path), "TIDEGATE_EDGE_HTTP": ""}
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = tidegate("edge", "--processes", "2", "--policy", place, env={**os.environ, **env})
    assert ran.returncode == 2
    lines = ran.stderr.decode().splitlines()
    assert f"tidegate: edge.policy can't be at {place} (Address already in use): choose another one" in lines
    assert lines[-1].startswith("tidegate: process ")
