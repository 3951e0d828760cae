"""A worker on a real Kafka tells a webhook of a watched sender, once when it is throttled and once when it is released."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.local import EmbeddedBroker
from tests.system.edges import Decider
from tests.system.workers import WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

WATCHED = "198.51.100.9"


@pytest.fixture
def told() -> Iterator[tuple[list[dict[str, Any]], str]]:
    """What was POSTed, and where to."""
    bodies: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(orjson.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Not on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield bodies, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_watched_sender_is_told_of(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, told: tuple[list[dict[str, Any]], str]
) -> None:
    bodies, url = told
    options = {"NOTIFY_WEBHOOK": url, "NOTIFY_WATCH": f"{WATCHED}/32", "NOTIFY_HOLD_S": 0, "NOTIFY_ON": "watch"}
    env = environment(broker.bootstrap, prefix, 1, **options)
    assert tidegate("topics", "--create", env=env).returncode == 0
    now_ms = int(time.time() * 1000)
    events = ({"ts": now_ms - 60_000 + i, "ip": ip} for i in range(2_000) for ip in (WATCHED, "198.51.100.10"))
    lines = b"".join(orjson.dumps(event) + b"\n" for event in events)
    with WorkerProcess(env, tmp_path) as worker:
        assert tidegate("produce", "-", env=env, stdin=lines).returncode == 0
        worker.wait_for(1, 4_000)
        until(lambda: bool(bodies), "a notification")
        Decider(broker.bootstrap, prefix).release(f"{WATCHED}/32")
        until(lambda: len(bodies) > 1, "one that it is over")
        assert worker.stop() == 0
    assert [(one["condition"], one["name"], one["state"]) for one in bodies] == [
        ("watch", f"watch {WATCHED}/32", "begun"),
        ("watch", f"watch {WATCHED}/32", "over"),
    ]
    assert "messages in" in bodies[0]["text"]
