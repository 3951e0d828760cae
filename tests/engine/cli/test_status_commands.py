"""`tidegate status` and `tidegate top` ask a worker: exit statuses for scripts, words for people, one line without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from benchmarks.ports import free_port
from engine.cli import main
from engine.cli.top import rates
from engine.config.load import load_settings
from engine.web.client import Place, place_of
from engine.worker.status import status_of
from tests.engine.worker.test_apply import EVENTS, Bench, batch_of
from topics.errors import OperatorError


@pytest.fixture(scope="module")
def status() -> dict[str, Any]:
    """A worker's, after some hundred events."""
    bench = Bench()
    asyncio.run(bench.take(batch_of(EVENTS[:100])))
    return status_of(bench.engine, lambda number: 100)


class Answers:
    """A server that gives each path its JSON, or octets as they are."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        answers = self

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = answers.pages.get(self.path.partition("?")[0])
                self.send_response(404 if page is None else 200)
                self.end_headers()
                self.wfile.write(page if isinstance(page, bytes) else orjson.dumps(page or {"error": "nothing here"}))

            def log_message(self, *_: Any) -> None:
                """Not on the test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def worker(status: dict[str, Any]) -> Iterator[Answers]:
    answers = Answers()
    answers.pages["/v1/status"] = status
    answers.pages["/v1/overview"] = {
        "status": status,
        "complaints": ["partition 2 is unwell"],
        "live": 1,
        "shadows": 2,
        "decisions": [
            {"network": "192.0.2.7/32", "reason": "volume", "until": 0, "words": "about 293 messages in 6 hours"}
        ],
        "movers": [
            {"address": "192.0.2.8", "messages": 1234.0, "expected": 7.0, "active_days": 3, "until": 9, "shadow": True}
        ],
    }
    thread = threading.Thread(target=answers.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield answers
    answers.server.shutdown()
    answers.server.server_close()
    thread.join()


def test_a_worker_that_is_well_is_status_0(worker: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", worker.url]) == 0
    shown = capsys.readouterr().out
    assert f"in all: {worker.pages['/v1/status']['events']:,} events" in shown
    assert "not well" not in shown


def test_one_that_is_not_is_status_1_and_says_what(worker: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    behind = orjson.loads(orjson.dumps(worker.pages["/v1/status"]))
    behind["partitions"]["2"] |= {"lag": 12_000, "lag_s": 300.0}
    worker.pages["/v1/status"] = behind
    assert main(["status", "--url", worker.url]) == 1
    assert "not well: partition 2 is 300 s and 12,000 events behind" in capsys.readouterr().out


def test_for_programs_it_is_one_object(worker: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--url", worker.url]) == 0
    shown = orjson.loads(capsys.readouterr().out)
    assert shown["complaints"] == []
    assert shown["since_start"]["records"] == 100


@pytest.mark.parametrize("command", ["status", "top"])
def test_nobody_there_is_status_2_and_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no worker answers at http://127.0.0.1:" in said


def test_something_else_that_answers_is_told_from_a_worker(worker: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    worker.pages["/v1/status"] = b"<html>"
    assert main(["status", "--url", worker.url]) == 2
    assert f"what answers at {worker.url} is no worker" in capsys.readouterr().err


def test_top_shows_one_picture(worker: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--url", worker.url]) == 0
    shown = capsys.readouterr().out
    assert worker.url in shown
    for said in (
        "events/s",
        "not well: partition 2 is unwell",
        "192.0.2.7/32",
        "about 293 messages",
        "192.0.2.8",
        "1,234 messages; its own most was 7.0  in shadow",
        "1 throttles in force and 2 in shadow",
    ):
        assert said in shown


def test_rates_are_of_the_time_between() -> None:
    since = {"records": 100, "throttles": 5, "cpu_s": 1.0}
    before = {"time_ms": 1_000, "pid": 7, "since_start": since}
    later = {"time_ms": 3_000, "pid": 7, "since_start": {"records": 300, "throttles": 6, "cpu_s": 2.0}}
    assert rates(before, later) == (100.0, 0.5, 0.5)
    assert rates(before, {**later, "pid": 8}) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("url", "http", "place"),
    [
        (None, "127.0.0.1:10090", Place("127.0.0.1", 10090)),
        (None, "[::1]:99,127.0.0.1:5", Place("::1", 99)),
        ("http://mx.example:8080/", "", Place("mx.example", 8080)),
    ],
)
def test_a_worker_is_where_it_is_said_to_be(url: str | None, http: str, place: Place) -> None:
    assert place_of(load_settings(None, {}, {"worker.http": http}), url) == place


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "https://localhost:1", "http://localhost", "http://localhost:99999", "ftp://localhost:1"]
)
def test_other_addresses_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(OperatorError, match=r"give it as http"):
        place_of(load_settings(None, {}, {}), url)


def test_a_worker_without_http_must_be_named() -> None:
    with pytest.raises(OperatorError, match=r"worker\.http is empty"):
        place_of(load_settings(None, {}, {"worker.http": ""}), None)
