"""What the embedded broker does before and after a Java process: jars, and the reason in one line."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jgo.maven import _core

from engine.broker import bootstrap_of
from engine.broker.artifacts import KAFKA_VERSION, LOCK_FILE, Jar, class_path, intact, pinned
from engine.broker.download import download
from engine.broker.failure import cause, last_word
from topics.errors import OperatorError

CONTENT = bytes(range(256)) * 1000
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "org.example:thing:1.0")


class Repository(BaseHTTPRequestHandler):
    """Serves `answers`, one after the other, the last one for ever: content and how many octets of it arrive."""

    answers: list[tuple[bytes, int]]

    def do_GET(self) -> None:
        if not self.path.endswith("/org/example/thing/1.0/thing-1.0.jar"):
            self.send_error(404)
            return
        content, arrive_octets = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:arrive_octets])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Repository]]:
    """A Maven repository on this machine in the place of the public one."""
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


def test_the_lock_pins_every_jar_once_and_names_no_address() -> None:
    jars = pinned()
    assert len({jar.coordinate for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 and int(jar.sha256, 16) and jar.size_octets > 1000 for jar in jars)
    assert "http" not in LOCK_FILE.read_text()
    assert {f"org.apache.kafka:{name}:{KAFKA_VERSION}" for name in ("kafka_2.13", "kafka-clients", "kafka-tools")} <= {
        jar.coordinate for jar in jars
    }


def test_a_jar_arrives_whole(repository: type[Repository], tmp_path: Path) -> None:
    download([JAR], tmp_path)
    assert intact(JAR, tmp_path)


def test_a_broken_jar_is_not_intact_and_is_replaced(repository: type[Repository], tmp_path: Path) -> None:
    path = JAR.path(tmp_path)
    path.parent.mkdir(parents=True)
    for broken in (CONTENT[:-1], CONTENT[:-1] + b"x"):
        path.write_bytes(broken)
        assert not intact(JAR, tmp_path)
        download([JAR], tmp_path)
        assert intact(JAR, tmp_path)


def test_a_download_that_breaks_off_is_tried_again(repository: type[Repository], tmp_path: Path) -> None:
    repository.answers.insert(0, (CONTENT, 1000))
    download([JAR], tmp_path)
    assert intact(JAR, tmp_path)


def test_other_content_than_pinned_is_refused_and_not_kept(repository: type[Repository], tmp_path: Path) -> None:
    repository.answers[:] = [(CONTENT[::-1], len(CONTENT))]
    with pytest.raises(OperatorError, match=r"thing-1\.0\.jar .*not what kafka\.lock pins") as raised:
        download([JAR], tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert not JAR.path(tmp_path).exists()


def test_no_network_is_one_line_that_says_what_to_do(
    repository: type[Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_core.DEFAULT_REMOTE_REPOS, "central", "http://127.0.0.1:1/maven2")
    with pytest.raises(
        OperatorError, match=r"could not be downloaded .*HTTPS_PROXY.*run the same command again.*copy"
    ) as raised:
        download([JAR], tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_cache_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIDEGATE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OperatorError, match=r"can't be written .*set TIDEGATE_CACHE_DIR"):
        class_path()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("java.net.BindException: Address already in use", "choose another port"),
        ("java.io.IOException: No space left on device", "free some space"),
        ("java.lang.OutOfMemoryError: Java heap space", "raise local.heap_mb"),
    ],
)
def test_the_reason_comes_with_what_to_do(said: str, advice: str) -> None:
    lines = [
        "2026-01-01 00:00:00,000 INFO begin (Kafka)",
        f"Caused by: {said}",
        "2026-01-01 00:00:00,001 ERROR Exiting",
    ]
    assert last_word(lines).startswith(f"Caused by: {said}: {advice}")


def test_an_unknown_reason_is_the_last_line_that_complains() -> None:
    lines = ["2026-01-01 00:00:00,000 ERROR first (A)", "2026-01-01 00:00:00,001 ERROR last (B)", "\tat B", "bye"]
    assert last_word(lines) == "ERROR last (B)"
    assert last_word([]) == "it said nothing"


def test_only_this_starts_part_of_the_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "broker.log"
    log.parent.mkdir()
    log.write_text("ERROR of yesterday\n")
    begin_octets = log.stat().st_size
    with log.open("a") as file:
        file.write(" ERROR of today\n")
    assert cause(log, tmp_path / "none", begin_octets) == f"ERROR of today (all of it: {log})"


def test_no_broker_has_no_address(tmp_path: Path) -> None:
    assert bootstrap_of(tmp_path) is None
