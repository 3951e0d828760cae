"""Workers with a real Kafka notify a webhook of watched senders: once when one is throttled, once when it is released,
whichever worker owns the partition by then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

from engine.broker import EmbeddedBroker
from tests.support.edges import Decider
from tests.support.workers import WAIT_S, WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

WATCHED, LATER = "198.51.100.9", "198.51.100.11"


@pytest.fixture
def hook() -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Receive POST requests; give their bodies and the URL."""
    bodies: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(orjson.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Write nothing to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield bodies, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def burst(*ips: str) -> bytes:
    """Return events of newcomers that lead to throttles."""
    now_ms = int(time.time() * 1000)
    events = ({"ts": now_ms - 60_000 + i, "ip": ip} for i in range(2_000) for ip in ips)
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


def test_watched_sender_is_reported_once_and_its_end_by_the_next_worker(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, hook: tuple[list[dict[str, Any]], str]
) -> None:
    bodies, url = hook
    watch = f"{WATCHED}/32,{LATER}/32"
    options = {"NOTIFY_WEBHOOK": url, "NOTIFY_WATCH": watch, "NOTIFY_HOLD_S": 0, "NOTIFY_ON": "watch"}
    env = environment(broker.bootstrap, prefix, 1, **options)
    assert tidegate("topics", "--create", env=env).returncode == 0
    with WorkerProcess(env, tmp_path) as worker:
        assert tidegate("produce", "-", env=env, stdin=burst(WATCHED, "198.51.100.10")).returncode == 0
        worker.wait_for(1, 4_000)
        until(lambda: bool(bodies), "a notification")
        until(lambda: f"watch {WATCHED}/32" in notices(broker, prefix), "a notice on the topic")
        assert worker.stop() == 0
    with WorkerProcess(env, tmp_path) as worker:
        worker.wait_for(1, 4_000)
        assert tidegate("produce", "-", env=env, stdin=burst(LATER)).returncode == 0
        until(lambda: len(bodies) > 1, "a notification of the other sender")
        Decider(broker.bootstrap, prefix).release(f"{WATCHED}/32")
        until(lambda: len(bodies) > 2, "a notification that it is over")
        until(lambda: notices(broker, prefix) == {f"watch {LATER}/32"}, "a notice removed from the topic")
        assert worker.stop() == 0
    assert [(body["condition"], body["name"], body["state"]) for body in bodies] == [
        ("watch", f"watch {WATCHED}/32", "begun"),
        ("watch", f"watch {LATER}/32", "begun"),
        ("watch", f"watch {WATCHED}/32", "over"),
    ]
    assert "messages in" in bodies[0]["text"]
    assert bodies[2]["since"] == bodies[0]["since"]


def notices(broker: EmbeddedBroker, prefix: str) -> set[str]:
    """Return the names of the conditions on the topic."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"{prefix}look"})
    try:
        tp = confluent_kafka.TopicPartition(f"{prefix}notices", 0, confluent_kafka.OFFSET_BEGINNING)
        _, end = consumer.get_watermark_offsets(tp, timeout=WAIT_S)
        consumer.assign([tp])
        names: set[str] = set()
        for message in consumer.consume(end, timeout=WAIT_S) if end else []:
            (names.add if message.value() else names.discard)((message.key() or b"").decode())
        return names
    finally:
        consumer.close()
