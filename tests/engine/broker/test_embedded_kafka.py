"""The embedded broker before and after a Java process: jars, and the failure reason in one line."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jgo.maven import _core

from engine.broker import bootstrap_of
from engine.broker.artifacts import class_path
from engine.broker.download import download
from engine.broker.failure import reason_in, stop_reason
from engine.broker.jars import KAFKA_VERSION, LOCK_FILE, Jar, is_intact, pinned_jars
from topics.errors import OperatorError

CONTENT = bytes(range(256)) * 1000
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "org.example:thing:1.0")


class Repository(BaseHTTPRequestHandler):
    """Serves `answers` in order, the last one repeatedly: content and the number of its bytes sent."""

    answers: list[tuple[bytes, int]]

    def do_GET(self) -> None:
        if not self.path.endswith("/org/example/thing/1.0/thing-1.0.jar"):
            self.send_error(404)
            return
        content, sent_bytes = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent_bytes])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Repository]]:
    """A Maven repository on this machine instead of the public one."""
    served = type("Served", (Repository,), {"answers": [(CONTENT, len(CONTENT))]})
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        monkeypatch.setitem(_core.DEFAULT_REMOTE_REPOS, "central", f"http://127.0.0.1:{server.server_port}/maven2")
        monkeypatch.setattr("engine.broker.download.BACKOFF_S", 0.0)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def test_lock_file_pins_every_jar_once_without_address() -> None:
    jars = pinned_jars()
    assert len({jar.coordinate for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 and int(jar.sha256, 16) and jar.size_bytes > 1000 for jar in jars)
    assert "http" not in LOCK_FILE.read_text()
    assert {f"org.apache.kafka:{name}:{KAFKA_VERSION}" for name in ("kafka_2.13", "kafka-clients", "kafka-tools")} <= {
        jar.coordinate for jar in jars
    }


def test_download_gives_an_intact_jar(repository: type[Repository], tmp_path: Path) -> None:
    download([JAR], tmp_path)
    assert is_intact(JAR, tmp_path)


def test_broken_jar_is_not_intact_and_is_replaced(repository: type[Repository], tmp_path: Path) -> None:
    path = JAR.path(tmp_path)
    path.parent.mkdir(parents=True)
    for broken in (CONTENT[:-1], CONTENT[:-1] + b"x"):
        path.write_bytes(broken)
        assert not is_intact(JAR, tmp_path)
        download([JAR], tmp_path)
        assert is_intact(JAR, tmp_path)


def test_interrupted_download_is_retried(repository: type[Repository], tmp_path: Path) -> None:
    repository.answers.insert(0, (CONTENT, 1000))
    download([JAR], tmp_path)
    assert is_intact(JAR, tmp_path)


def test_content_other_than_pinned_is_refused_and_removed(repository: type[Repository], tmp_path: Path) -> None:
    repository.answers[:] = [(CONTENT[::-1], len(CONTENT))]
    with pytest.raises(OperatorError, match=r"thing-1\.0\.jar .*differs from kafka\.lock") as raised:
        download([JAR], tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert not JAR.path(tmp_path).exists()


def test_download_without_network_is_a_one_line_error_with_advice(
    repository: type[Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_core.DEFAULT_REMOTE_REPOS, "central", "http://127.0.0.1:1/maven2")
    with pytest.raises(
        OperatorError, match=r"could not be downloaded .*HTTPS_PROXY.*run the same command again.*copy"
    ) as raised:
        download([JAR], tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_unwritable_cache_folder_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIDEGATE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OperatorError, match=r"can't be written .*set TIDEGATE_CACHE_DIR"):
        class_path()


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("java.net.BindException: Address already in use", "choose another port"),
        ("java.io.IOException: No space left on device", "free some space"),
        ("java.lang.OutOfMemoryError: Java heap space", "raise local.heap_mb"),
    ],
)
def test_known_reason_has_advice(message: str, advice: str) -> None:
    lines = [
        "2026-01-01 00:00:00,000 INFO begin (Kafka)",
        f"Caused by: {message}",
        "2026-01-01 00:00:00,001 ERROR Exiting",
    ]
    assert reason_in(lines).startswith(f"Caused by: {message}: {advice}")


def test_unknown_reason_is_the_last_error_line() -> None:
    lines = ["2026-01-01 00:00:00,000 ERROR first (A)", "2026-01-01 00:00:00,001 ERROR last (B)", "\tat B", "bye"]
    assert reason_in(lines) == "ERROR last (B)"
    assert reason_in([]) == "it logged nothing"


def test_stop_reason_ignores_earlier_starts(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "broker.log"
    log.parent.mkdir()
    log.write_text("ERROR of yesterday\n")
    start_bytes = log.stat().st_size
    with log.open("a") as file:
        file.write(" ERROR of today\n")
    assert stop_reason(log, tmp_path / "none", start_bytes) == f"ERROR of today (full log: {log})"


def test_folder_without_broker_has_no_address(tmp_path: Path) -> None:
    assert bootstrap_of(tmp_path) is None
