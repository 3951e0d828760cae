"""An edge of two processes with a real Kafka: one rate, one health, every event once, and a dead process is restarted."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.edges import Decider, EdgeProcess, Smtpd, read_events
from tests.support.workers import environment, tidegate

pytestmark = pytest.mark.timeout(240)

BURST, CLIENTS = 10, 24
BOTH = ("1", "2")


def of_both(figures: dict[str, float], name: str, reason: str = "") -> list[float]:
    """Return a metric of each process; -1 for a silent one."""
    labels = f',reason="{reason}"' if reason else ""
    return [figures.get(f'{name}{{process="{number}"{labels}}}', -1.0) for number in BOTH]


def connected(edge: EdgeProcess) -> list[Smtpd]:
    """Return policy connections, some to each process."""
    smtpds = [Smtpd(edge.policy) for _ in range(CLIENTS)]
    edge.wait_for(lambda figures: min(of_both(figures, "clients")) > 1 and sum(of_both(figures, "clients")) >= CLIENTS)
    return smtpds


def passed_messages(edge: EdgeProcess, ip: str, first_port: int) -> int:
    """Return how many of many messages from an address pass, over connections to both processes."""
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


def test_two_processes_act_as_one_edge(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    env = environment(broker.bootstrap, prefix, 4)
    assert tidegate("topics", "--create", env=env).returncode == 0
    engine, path = Decider(broker.bootstrap, prefix), tmp_path / "readsocket"
    engine.throttle("192.0.2.7/32", burst=BURST)
    engine.throttle("192.0.2.8/32", burst=BURST)
    with EdgeProcess(env, tmp_path / "edge", PROCESSES=2, QUIET_MS=60_000, READSOCKET=f"unix:{path}") as edge:
        edge.wait_for(lambda figures: of_both(figures, "fresh") == [1, 1] and of_both(figures, "decisions") == [2, 2])
        assert passed_messages(edge, "192.0.2.7", 1000) == BURST
        assert [reply_code(path, "192.0.2.7") for _ in range(8)] == ["451"] * 8
        edge.wait_for(lambda figures: sum(of_both(figures, "events_delivered_total")) == CLIENTS + 8)

        assert edge.health()["fresh"]
        os.kill(max(processes(edge)), signal.SIGKILL)
        edge.wait_for(
            lambda figures: 0 in of_both(figures, "replies_total", "within") and of_both(figures, "fresh") == [1, 1]
        )
        assert len(processes(edge)) == len(BOTH)
        assert "restarting it" in Path(edge.log.name).read_text()
        assert passed_messages(edge, "192.0.2.8", 2000) == BURST
        assert passed_messages(edge, "203.0.113.9", 3000) == CLIENTS * BURST
        living = processes(edge)
        assert edge.stop() == 0
    assert not any(map(psutil.pid_exists, living))
    messages = read_events(broker.bootstrap, prefix + "connections", 3 * CLIENTS + 8)
    received = [orjson.loads(message.value() or b"") for message in messages]
    assert counted(received, "192.0.2.7") == (CLIENTS + 8, CLIENTS * BURST + 8)
    assert counted(received, "192.0.2.8") == (CLIENTS, CLIENTS * BURST)
    assert counted(received, "203.0.113.9") == (CLIENTS, CLIENTS * BURST)
    assert {event["mta"] for event in received} == {"edge"}


def processes(edge: EdgeProcess) -> list[int]:
    return [child.pid for child in psutil.Process(edge.process.pid).children()]


def reply_code(path: Path, ip: str) -> str:
    """Return the reply's code over a UNIX socket, which all processes share."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(f"{ip}\n".encode())
        return client.recv(1000).decode()[:3]


def counted(events: list[dict[str, Any]], ip: str) -> tuple[int, int]:
    """Return the number of an address's events, and of the messages offered in them."""
    own = [event for event in events if event["ip"] == ip]
    return len(own), sum(event["messages"] + event.get("deferred_messages", 0) for event in own)


def test_unusable_option_ends_all_processes_with_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
        env |= {"TIDEGATE_EDGE_STATE_DIR": str(tmp_path), "TIDEGATE_EDGE_HTTP": ""}
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ran = tidegate("edge", "--processes", "2", "--policy", address, env={**os.environ, **env})
    assert ran.returncode == 2
    lines = ran.stderr.decode().splitlines()
    assert f"tidegate: edge.policy can't listen on {address} (Address already in use): choose another address" in lines
    assert lines[-1].startswith("tidegate: process ")
