"""Ports for servers that benchmarks and tests start.

A port is free when it is chosen and bound later, so the kernel may return one twice. Servers that share their ports
(SO_REUSEPORT) would never notice. Here a process returns each port once, from below the range that the kernel gives to
clients. Processes of one test run (pytest-xdist) choose from ranges of their own.
"""

from __future__ import annotations

import os
import random
import socket

FIRST, PER_PROCESS = 12_000, 5_000  # up to 31,999: Linux gives clients ports from 32,768 on
_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no process listens on, another one each time."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = FIRST + number * PER_PROCESS
    while True:
        port = random.SystemRandom().randrange(first, first + PER_PROCESS)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
