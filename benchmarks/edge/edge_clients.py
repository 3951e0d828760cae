"""The edges of the operator's benchmark: processes on a cluster, asked over HTTP and as Postfix asks."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.edge.servers import Server
from benchmarks.harness.cluster import Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.ports import free_port

LOAD_S = 600.0
SPENDS = 2_000


class AskedEdge:
    """An edge that listens at these ports, asked over one connection each."""

    def __init__(self, policy: int, http_port: int) -> None:
        self._policy = socket.create_connection(("127.0.0.1", policy), timeout=20)
        self._answers = self._policy.makefile("rb")
        self._http = http.client.HTTPConnection("127.0.0.1", http_port, timeout=20)

    def close(self) -> None:
        """End the connections."""
        self._answers.close()
        self._policy.close()
        self._http.close()

    def verdict(self, ip: str) -> dict[str, Any]:
        """What it would say; takes nothing."""
        return dict(orjson.loads(self._get(f"/v1/decisions/{ip}")))

    def figure(self, name: str) -> float:
        """One of its metrics."""
        lines = self._get("/metrics").decode().splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"tidegate_edge_{name} "))

    def spend(self, ip: str) -> None:
        """Ask for messages until one is deferred: the address has used up its rate."""
        for number in range(SPENDS):
            request = (
                f"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={ip}\ninstance={ip}.{number}\n\n"
            )
            self._policy.sendall(request.encode())
            line = self._answers.readline()
            self._answers.readline()
            if line.startswith(b"action=451"):
                return
        raise Broken(f"{ip} isn't deferred after {SPENDS} messages")

    def _get(self, path: str) -> bytes:
        self._http.request("GET", path)
        return self._http.getresponse().read()


@contextlib.contextmanager
def edges(place: Place, folder: Path, count: int) -> Iterator[list[AskedEdge]]:
    """So many edges on the place's topics."""
    with contextlib.ExitStack() as stack:
        asked = []
        for number in range(count):
            policy, http_port = free_port(), free_port()
            options = {
                "TIDEGATE_EDGE_POLICY": f"127.0.0.1:{policy}",
                "TIDEGATE_EDGE_HTTP": f"127.0.0.1:{http_port}",
                "TIDEGATE_EDGE_STATE_DIR": str(folder / f"edge {number}"),
                "TIDEGATE_EDGE_EVENTS": "off",
                "TIDEGATE_EDGE_NAME": f"edge-{number}",
                "TIDEGATE_EDGE_SNAPSHOT_INTERVAL_S": "3600",
                "TIDEGATE_LOG_LEVEL": "error",
            }
            command = [sys.executable, "-m", "engine.cli", "edge"]
            stack.enter_context(Server(command, place.environment(**options), policy, http_port))
            asked.append(stack.enter_context(contextlib.closing(AskedEdge(policy, http_port))))
        yield asked


def wait_until_known(asked: Sequence[AskedEdge], decisions: int) -> None:
    """Wait until every edge holds so many decisions and trusts them."""
    deadline_s = time.monotonic() + LOAD_S
    for edge in asked:
        while edge.figure("decisions") < decisions or not edge.figure("fresh"):
            if time.monotonic() > deadline_s:
                raise Broken(f"an edge has {edge.figure('decisions'):,.0f} decisions after {LOAD_S:g} s")
            time.sleep(0.2)
