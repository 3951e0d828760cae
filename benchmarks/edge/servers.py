"""The servers of the edge benchmarks: edges, a redis-server with the same decisions in memory, and postfwd.

postfwd is another policy server for Postfix, here with two rules. For look-ups an edge gets its decisions as a snapshot and
has no Kafka, because only answering is measured. The tokens of every decision are used up, so that it defers each time. Of
20 networks one is an IPv4 /24 and one an IPv6 /48; the questions are about addresses with a decision of their own.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.edge.lookup_load import address
from benchmarks.harness.errors import Broken
from benchmarks.harness.ports import free_port
from benchmarks.peers.debian import unpacked
from engine.edge.decision_row import DecisionRow
from engine.edge.snapshot import build_header, iter_chunks, pack_chunk, pack_header
from engine.edge.table import DecisionTable
from topics.decisions import Source
from topics.networks import Network, network_of

START_S = 60.0
LASTS_MS = 6 * 3_600_000
EXEMPTIONS = 1_000


class Server:
    """A process that listens on ``port``; ``http`` is an edge's port for HTTP."""

    def __init__(self, command: list[str], environ: dict[str, str], port: int, http: int = 0) -> None:
        self.port, self.http = port, http
        self._process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Server:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            time.sleep(0.05)
        self.__exit__()
        raise Broken(f"{self._process.args!r} doesn't listen")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def rss_mb(self) -> float:
        """Return resident memory in 10^6 bytes."""
        return float(psutil.Process(self._process.pid).memory_info().rss / 1e6)


def network(number: int) -> Network:
    """Return the network of a decision: mostly one sender, sometimes a wider network."""
    if number % 20 == 1:
        return network_of(f"{100 + (number >> 20)}.{number >> 12 & 255}.{number >> 4 & 255}.0/24")
    if number % 20 == 2:
        return Network(128, (0x2A00 << 112) + (number << 80), 48)
    found = network_of(address(number))
    return Network(128, found.number >> 64 << 64, 64) if found.bits == 128 else found


def write_snapshot(folder: Path, decisions: int) -> None:
    """Write the state folder of an edge with so many decisions."""
    table, now_ms = DecisionTable(decisions * 2), time.time_ns() // 1_000_000
    source = Source("connections", 0, 1)
    for number in range(decisions):
        ours = [network(number), network_of(address(number))] if number % 20 in (1, 2) else [network(number)]
        for net in ours:
            table.put(DecisionRow(net, now_ms + LASTS_MS, 0.0, 1.0, 500, 10_000_000 + number, source), now_ms)
    for index in range(len(table)):
        table.columns.tokens[index] = 0.0
    for number in range(EXEMPTIONS):
        table.exempt(network_of(f"172.16.{number >> 8}.{number & 255}/32"), None)
    rows = len(table)
    folder.mkdir(parents=True)
    chunks = b"".join(pack_chunk(raw) for raw in iter_chunks(table.columns, rows))
    (folder / "decisions.snapshot").write_bytes(pack_header(build_header(table, {}, now_ms, rows)) + chunks)


@contextlib.contextmanager
def edge(folder: Path, *, events: str, processes: int = 1) -> Iterator[Server]:
    """Run an edge on a folder of `write_snapshot`, without Kafka."""
    policy, pages = free_port(), free_port()
    options = {
        "KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}", "LOG_LEVEL": "error", "EDGE_POLICY": f"127.0.0.1:{policy}",
        "EDGE_HTTP": f"127.0.0.1:{pages}", "EDGE_STATE_DIR": str(folder), "EDGE_EVENTS": events,
        "EDGE_PROCESSES": str(processes), "EDGE_STALE_AFTER_S": "43200", "EDGE_MAX_DECISIONS": "4000000",
        "EDGE_SNAPSHOT_INTERVAL_S": "3600",
    }  # fmt: skip
    environ = {**os.environ, **{f"TIDEGATE_{name}": value for name, value in options.items()}}
    with Server([sys.executable, "-m", "engine.cli", "edge"], environ, policy, pages) as server:
        if processes > 1:
            _wait_for_all(server)
        yield server


def _wait_for_all(server: Server) -> None:
    """Wait until each process of the edge runs and trusts its decisions."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.2)
    raise Broken("a process of the edge doesn't answer")


@contextlib.contextmanager
def redis(decisions: int) -> Iterator[Server]:
    """Run a redis-server that has every decision's address as a key."""
    root, port = unpacked("redis", "redis-server", "redis-tools", "libjemalloc2", "liblzf1"), free_port()
    environ = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"), "PATH": os.environ["PATH"]}
    program = root / "usr/bin/redis-check-rdb"  # one binary under several names, which decide what it does
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with Server([str(_as_server(program)), *command[1:]], environ, port) as server:
        _fill(port, decisions)
        yield server


def _as_server(program: Path) -> Path:
    """Return a name of the program under which it is a server."""
    named = program.with_name("redis-server")
    if not named.exists():
        named.symlink_to(program.name)
    return named


def _fill(port: int, decisions: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as replies:
        for at in range(0, decisions, 10_000):
            ips = [address(number) for number in range(at, min(at + 10_000, decisions))]
            client.sendall(b"".join(f"*3\r\n$3\r\nSET\r\n${len(ip)}\r\n{ip}\r\n$2\r\n51\r\n".encode() for ip in ips))
            if any(replies.readline() != b"+OK\r\n" for _ in ips):
                raise Broken("redis-server refused a key")


POSTFWD_RULES = """id=OTHERS; client_address=203.0.0.0/8; action=DUNNO
id=THROTTLED; action=451 4.7.500 Server busy. Please try again later
"""


@contextlib.contextmanager
def postfwd(folder: Path) -> Iterator[int]:
    """Run a postfwd that answers the questions rightly with two rules and no decision; return its port."""
    root = unpacked("postfwd", "postfwd", "libnet-server-perl", "libnet-dns-perl", "libio-multiplex-perl")
    if shutil.which("perl") is None:
        raise Broken("postfwd is not available: no perl")
    rules, pid_file, port = folder / "postfwd.cf", folder / "postfwd.pid", free_port()
    rules.write_text(POSTFWD_RULES)
    folder.chmod(0o755)
    found = [f"-I{path}" for path in (root / "usr/share/perl5", *(root / "usr/lib").glob("*/perl5/*"))]
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    command = ["perl", "-T", *found, str(root / "usr/sbin/postfwd1"), "--daemon", "--nodns", "--file", str(rules)]
    command += ["--interface", "127.0.0.1", "--port", str(port), "--user", user, "--group", group]
    ran = subprocess.run(
        [*command, "--pidfile", str(pid_file)], capture_output=True, text=True, timeout=60, check=False
    )
    if ran.returncode:
        raise Broken(f"postfwd is not available: {(ran.stderr.strip().splitlines() or ['it ends immediately'])[-1]}")
    deadline_s = time.monotonic() + START_S
    while not pid_file.exists() or not pid_file.read_text().strip():
        if time.monotonic() > deadline_s:
            raise Broken("postfwd is not available: it doesn't start")
        time.sleep(0.05)
    try:
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
