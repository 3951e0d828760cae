"""`tidegate status` and `tidegate top`: exit statuses, text for people, JSON for scripts, one line without a worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from benchmarks.harness.ports import free_port
from engine.cli import main
from engine.cli.top import rates
from engine.config.load import load_settings
from engine.web.client import WorkerAddress, worker_address
from engine.worker.status import status_of
from tests.support.bench import EVENTS, Bench, batch_of
from topics.errors import OperatorError


@pytest.fixture(scope="module")
def status() -> dict[str, Any]:
    """Return the status of a worker after a hundred events."""
    bench = Bench()
    asyncio.run(bench.apply(batch_of(EVENTS[:100])))
    return status_of(bench.applier, lambda number: 100)


class FakeWorker:
    """An HTTP server that returns JSON, or bytes as they are, for each path."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        server = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = server.pages.get(self.path.partition("?")[0])
                self.send_response(404 if page is None else 200)
                self.end_headers()
                self.wfile.write(page if isinstance(page, bytes) else orjson.dumps(page or {"error": "nothing here"}))

            def log_message(self, *_: Any) -> None:
                """Keep the requests out of the test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def worker(status: dict[str, Any]) -> Iterator[FakeWorker]:
    fake = FakeWorker()
    fake.pages["/v1/status"] = status
    fake.pages["/v1/overview"] = {
        "status": status,
        "problems": ["partition 2 is unwell"],
        "active": 1,
        "in_shadow": 2,
        "decisions": [
            {"network": "192.0.2.7/32", "reason": "volume", "until": 0, "words": "about 293 messages in 6 hours"}
        ],
        "top_senders": [
            {"address": "192.0.2.8", "messages": 1234.0, "expected": 7.0, "active_days": 3, "until": 9, "shadow": True}
        ],
    }
    thread = threading.Thread(target=fake.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()


def test_status_of_healthy_worker_exits_0(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", worker.url]) == 0
    shown = capsys.readouterr().out
    assert f"total: {worker.pages['/v1/status']['events']:,} events" in shown
    assert "problem" not in shown


def test_status_of_lagging_worker_exits_1_with_the_problem(
    worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    lagging = orjson.loads(orjson.dumps(worker.pages["/v1/status"]))
    lagging["partitions"]["2"] |= {"lag": 12_000, "lag_s": 300.0}
    worker.pages["/v1/status"] = lagging
    assert main(["status", "--url", worker.url]) == 1
    assert "problem: partition 2 lags by 300 s and 12,000 events" in capsys.readouterr().out


def test_status_as_json_is_one_object(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--url", worker.url]) == 0
    shown = orjson.loads(capsys.readouterr().out)
    assert shown["problems"] == []
    assert shown["since_start"]["records"] == 100


@pytest.mark.parametrize("command", ["status", "top"])
def test_command_without_worker_exits_2_with_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no worker answers at http://127.0.0.1:" in error


def test_status_of_other_server_exits_2(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    worker.pages["/v1/status"] = b"<html>"
    assert main(["status", "--url", worker.url]) == 2
    assert f"the server at {worker.url} is not a worker" in capsys.readouterr().err


def test_top_once_prints_all_parts(worker: FakeWorker, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--url", worker.url]) == 0
    shown = capsys.readouterr().out
    assert worker.url in shown
    for part in (
        "events/s",
        "problem: partition 2 is unwell",
        "192.0.2.7/32",
        "about 293 messages",
        "192.0.2.8",
        "1,234 messages; its own peak was 7.0  in shadow",
        "1 active throttles and 2 in shadow",
    ):
        assert part in shown


def test_rates_of_two_statuses_are_per_second() -> None:
    since = {"records": 100, "throttles": 5, "cpu_s": 1.0}
    before = {"time_ms": 1_000, "pid": 7, "since_start": since}
    later = {"time_ms": 3_000, "pid": 7, "since_start": {"records": 300, "throttles": 6, "cpu_s": 2.0}}
    assert rates(before, later) == (100.0, 0.5, 0.5)
    assert rates(before, {**later, "pid": 8}) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("url", "http", "address"),
    [
        (None, "127.0.0.1:10090", WorkerAddress("127.0.0.1", 10090)),
        (None, "[::1]:99,127.0.0.1:5", WorkerAddress("::1", 99)),
        ("http://mx.example:8080/", "", WorkerAddress("mx.example", 8080)),
    ],
)
def test_worker_address_is_url_then_first_listener(url: str | None, http: str, address: WorkerAddress) -> None:
    assert worker_address(load_settings(None, {}, {"worker.http": http}), url) == address


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "https://localhost:1", "http://localhost", "http://localhost:99999", "ftp://localhost:1"]
)
def test_invalid_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(OperatorError, match=r"give it as http"):
        worker_address(load_settings(None, {}, {}), url)


def test_worker_address_without_http_and_url_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"worker\.http is empty"):
        worker_address(load_settings(None, {}, {"worker.http": ""}), None)
