"""The load of the look-up benchmark: it asks at its rate, and finds wrong answers."""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.edge.lookup_load import load, run_load
from benchmarks.harness.errors import WrongAnswer

DUNNO = b"action=DUNNO\n\n"


class Answering(threading.Thread):
    """A policy server that gives every client the same reply; an empty one closes the connection."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.requests, self._reply, self.ending = 0, reply, threading.Event()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector, self.listening:
            selector.register(self.listening, selectors.EVENT_READ)
            while not self.ending.is_set():
                for key, _ in selector.select(0.05):
                    self._serve(selector, key.fileobj)
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def _serve(self, selector: selectors.BaseSelector, ready: object) -> None:
        assert isinstance(ready, socket.socket)
        if ready is self.listening:
            selector.register(ready.accept()[0], selectors.EVENT_READ)
            return
        with contextlib.suppress(ConnectionError):
            if (request := ready.recv(65_536)) and self._reply:
                self.requests += request.count(b"\n\n")
                ready.sendall(self._reply)
                return
        selector.unregister(ready)
        ready.close()


@contextmanager
def answering(reply: bytes) -> Iterator[Answering]:
    server = Answering(reply)
    server.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.join(10)


def given(server: Answering, seconds: float, rate: float = 0.0) -> argparse.Namespace:
    port = server.listening.getsockname()[1]
    return argparse.Namespace(
        port=port, protocol="policy", connections=4, decisions=100, seconds=seconds, rate=rate, seed=1
    )


def test_closed_load_counts_every_answer_and_finds_the_wrong_ones() -> None:
    with answering(DUNNO) as server:
        measured = load(given(server, 0.2))
        assert 0 <= server.requests - measured["answers"] <= 4
    assert 0.4 < measured["wrong"] / measured["answers"] < 0.6
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["most_ms"]
    assert measured["load_cpu_us"] > 0


def test_open_load_asks_at_its_rate() -> None:
    with answering(DUNNO) as server:
        measured = load(given(server, 0.5, rate=1000))
        assert measured["answers"] == server.requests == 500
    assert 0 < measured["per_s"] <= 1100


def test_server_that_closes_connections_is_no_result() -> None:
    with answering(b"") as server, pytest.raises(ConnectionError):
        load(given(server, 0.2))


def test_wrong_answers_end_the_benchmark() -> None:
    with answering(DUNNO) as server, pytest.raises(WrongAnswer, match="answers of policy were wrong"):
        run_load(server.listening.getsockname()[1], "policy", 4, 100, 0.2)
