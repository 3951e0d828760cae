"""Ports for servers that benchmarks and tests start.

A port is free when it is asked for and taken later, so the kernel may name one twice; servers that share their ports
(SO_REUSEPORT) would never notice. Here each is given once by a process.
"""

from __future__ import annotations

import contextlib
import socket

_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, another one each time."""
    with contextlib.ExitStack() as held:
        while True:
            probe = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(probe.getsockname()[1])
            if port not in _given:
                _given.add(port)
                return port
