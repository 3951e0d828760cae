"""Edge processes for system tests: on free ports, asked as Postfix asks, observed over HTTP; and their records in Kafka."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson

from benchmarks.harness.ports import free_port
from engine.edge.snapshot import build_header, iter_chunks, pack_chunk, pack_header
from engine.edge.table import DecisionTable
from tests.support.pace import scaled
from tests.support.transcripts import row

WAIT_S = scaled(15)
THROTTLED_IP = "192.0.2.7"  # in the snapshot of `write_spent_snapshot`
DEFERRAL = f"451 4.7.500 Server busy. Please try again later from [{THROTTLED_IP}]; retry in 60 s. (AS10000007)"


def write_spent_snapshot(state_dir: Path) -> None:
    """Write the state folder of an edge whose one decision, for `THROTTLED_IP`, has no token left."""
    table, now_ms = DecisionTable(10), time.time_ns() // 1_000_000
    throttle = row(f"{THROTTLED_IP}/32", 10000007, now_ms + 3_600_000)
    table.put(throttle._replace(rate_per_ms=1 / 60_000), now_ms + 1_800_000)  # refills from then on
    table.columns.tokens[0] = 0.0
    state_dir.mkdir(parents=True)
    chunks = b"".join(map(pack_chunk, iter_chunks(table.columns, 1)))
    (state_dir / "decisions.snapshot").write_bytes(pack_header(build_header(table, {}, now_ms, 1)) + chunks)


def read_events(bootstrap: str, topic: str, count: int, limit_s: float = 20) -> list[confluent_kafka.Message]:
    """Return the committed records of a topic: at least `count`, and those of one more second."""
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{topic}{time.time()}", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    messages: list[confluent_kafka.Message] = []
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        message = reader.poll(0.2)
        if message is not None and message.error() is None:
            messages.append(message)
            if len(messages) == count:
                deadline_s = min(deadline_s, time.monotonic() + 1)
    reader.close()
    return messages


def policy_request(ip: str, port: int, instance: str, recipient: str = "u@example.org") -> bytes:
    """Return a policy request as smtpd sends it."""
    return (
        f"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address={ip}\n"
        f"client_port={port}\ninstance={instance}\nsender=a@example.net\nrecipient={recipient}\n\n"
    ).encode()


class Smtpd:
    """One policy connection, as one smtpd process has it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")

    def ask(self, ip: str, port: int, instance: str) -> str:
        """Return the action, "" if the connection was closed instead."""
        self._socket.sendall(policy_request(ip, port, instance))
        line = self._file.readline().decode().strip().removeprefix("action=")
        self._file.readline()
        return line

    def close(self) -> None:
        """Close the connection, as at the end of the process."""
        self._file.close()
        self._socket.close()


class EdgeProcess:
    """An edge process, killed at the end of its context if it still runs."""

    def __init__(self, env: dict[str, str], folder: Path, **options: object) -> None:
        folder.mkdir(exist_ok=True)
        self.policy, self.http = free_port(), free_port()
        given: dict[str, object] = {
            "STATE_DIR": folder / "state", "POLICY": f"127.0.0.1:{self.policy}", "HTTP": f"127.0.0.1:{self.http}",
            "BATCH_MS": 50, "QUIET_MS": 1000, "HEARTBEAT_MS": 200, "NAME": folder.name, **options,
        }  # fmt: skip
        self._options = given
        self.log = (folder / "edge.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", "edge"],
            env={**os.environ, **env, **{f"TIDEGATE_EDGE_{name}": str(value) for name, value in given.items()}},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self) -> EdgeProcess:
        self.wait_for(lambda figures: True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def port(self, protocol: str) -> int:
        """Return the TCP port of a protocol, named as its option."""
        return int(str(self._options[protocol]).rpartition(":")[2])

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def figures(self) -> dict[str, float]:
        """Return the metrics by name, without prefix."""
        lines = [line.split(" ") for line in self.get("/metrics")[1].decode().splitlines() if line[0] != "#"]
        return {name.removeprefix("tidegate_edge_"): float(value) for name, value in lines}

    def health(self) -> dict[str, Any]:
        """Return the JSON of /health."""
        return dict(orjson.loads(self.get("/health")[1]))

    def wait_for(self, wanted: Any) -> dict[str, float]:
        """Return the metrics once `wanted(metrics)` is true."""
        deadline_s = time.monotonic() + WAIT_S
        figures: dict[str, float] = {}
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, Path(self.log.name).read_text()
            try:
                figures = self.figures()
                if wanted(figures):
                    return figures
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"after {WAIT_S} s: {figures}\n{Path(self.log.name).read_text()}")

    def stop(self) -> int:
        """Stop it gracefully and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


class Decider:
    """Publishes decisions and exemptions in place of an engine."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
        self._prefix, self._offset = prefix, 0

    def throttle(self, network: str, lasts_s: float = 600, rate_per_min: float = 0.0, burst: float = 1.0) -> None:
        now_ms, self._offset = int(time.time() * 1000), self._offset + 1
        decision = {
            "network": network, "verdict": "throttle", "issued": now_ms, "until": now_ms + int(lasts_s * 1000),
            "rate_per_min": rate_per_min, "burst": burst, "reason": "volume",
            "reply": {"code": 451, "status": "4.7.500", "tag": "AS12345678", "text": "not used by the edge"},
            "evidence": {}, "source": {"topic": "connections", "partition": 0, "offset": self._offset},
            "model": "test", "config": "test", "v": 1,
        }  # fmt: skip
        self._send("decisions", network, orjson.dumps(decision))

    def release(self, network: str) -> None:
        self._send("decisions", network, None)

    def exempt(self, network: str) -> None:
        self._send("exemptions", network, orjson.dumps({"network": network, "kind": "exempt", "v": 1}))

    def _send(self, topic: str, key: str, value: bytes | None) -> None:
        self._producer.produce(self._prefix + topic, value, key=key.encode())
        self._producer.flush(10)
