"""Edge processes for system tests: ports of their own, asked as Postfix asks, watched over HTTP."""

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
from tests.support.pace import scaled

WAIT_S = scaled(15)


def policy_request(ip: str, port: int, instance: str, recipient: str = "u@example.org") -> bytes:
    """A request as smtpd sends it."""
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
        """The action, "" if the connection was closed instead."""
        self._socket.sendall(policy_request(ip, port, instance))
        line = self._file.readline().decode().strip().removeprefix("action=")
        self._file.readline()
        return line

    def close(self) -> None:
        """The process ends."""
        self._file.close()
        self._socket.close()


class EdgeProcess:
    """An edge; use it as a context: it ends by force if it is still there."""

    def __init__(self, env: dict[str, str], folder: Path, **options: object) -> None:
        folder.mkdir(exist_ok=True)
        self.policy, self.http = free_port(), free_port()
        self.other = 0
        given: dict[str, object] = {
            "STATE_DIR": folder / "state", "POLICY": f"127.0.0.1:{self.policy}", "HTTP": f"127.0.0.1:{self.http}",
            "BATCH_MS": 50, "QUIET_MS": 1000, "HEARTBEAT_MS": 200, "NAME": folder.name, **options,
        }  # fmt: skip
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

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def figures(self) -> dict[str, float]:
        """The metrics by name, without prefix."""
        lines = [line.split(" ") for line in self.get("/metrics")[1].decode().splitlines() if line[0] != "#"]
        return {name.removeprefix("tidegate_edge_"): float(value) for name, value in lines}

    def health(self) -> dict[str, Any]:
        """What /health says."""
        return dict(orjson.loads(self.get("/health")[1]))

    def wait_for(self, wanted: Any) -> dict[str, float]:
        """Wait until its figures are as wanted; the figures."""
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
        """End it gracefully; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


class Decider:
    """What an engine would say, said by the test."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
        self._prefix, self._offset = prefix, 0

    def throttle(self, network: str, lasts_s: float = 600, rate_per_min: float = 0.0, burst: float = 1.0) -> None:
        now_ms, self._offset = int(time.time() * 1000), self._offset + 1
        decision = {
            "network": network, "verdict": "throttle", "issued": now_ms, "until": now_ms + int(lasts_s * 1000),
            "rate_per_min": rate_per_min, "burst": burst, "reason": "volume",
            "reply": {"code": 451, "status": "4.7.500", "tag": "AS12345678", "text": "not said by the edge"},
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
