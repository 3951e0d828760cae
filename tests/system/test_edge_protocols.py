"""Every protocol through the sockets and pipes of a real edge process, which starts from a snapshot and has no Kafka."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import DNSRecord

from benchmarks.ports import free_port
from engine.edge.protocols.opensmtpd import REGISTRATION
from engine.edge.snapshot import header_of, pack_chunk, pack_header, slices
from engine.edge.table import Table
from tests.support.edges import EdgeProcess, Smtpd
from tests.support.transcripts import row
from tests.support.workers import environment, tidegate

IP = "192.0.2.7"
REFUSED = f"451 4.7.500 Server busy. Please try again later from [{IP}]; retry in 60 s. (AS10000007)"
LISTENERS = ("MILTER", "SOCKETMAP", "TCP_TABLE", "READSOCKET", "OPENSMTPD", "DNS")


def spent_snapshot(folder: Path) -> None:
    """A state folder whose one decision has no token left."""
    table, now_ms = Table(10), time.time_ns() // 1_000_000
    table.put(row(f"{IP}/32", 10000007, now_ms + 3_600_000)._replace(rate_per_ms=1 / 60_000), now_ms + 30_000)
    table.columns.tokens[0] = 0.0
    folder.mkdir(parents=True)
    chunks = b"".join(map(pack_chunk, slices(table.columns, 1)))
    (folder / "decisions.snapshot").write_bytes(pack_header(header_of(table, {}, now_ms, 1)) + chunks)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EdgeProcess, dict[str, int]]]:
    folder = tmp_path_factory.mktemp("edge")
    spent_snapshot(folder / "state")
    ports = {name: free_port() for name in LISTENERS}
    options: dict[str, object] = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
    with EdgeProcess(env, folder, **options, DNS_ZONE="blocked.example") as running:
        yield running, ports


def said(port: int, octets: bytes, *, until_closed: bool = False) -> bytes:
    """What a listener answers to octets in one piece."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(octets)
        answer = client.recv(4096)
        while until_closed and (more := client.recv(4096)):
            answer += more
        return answer


def test_postfix(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert Smtpd(edge[0].policy).ask(IP, 25, "1") == REFUSED


def test_tables(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert said(edge[1]["SOCKETMAP"], b"18:tidegate 192.0.2.7,") == f"{len(REFUSED) + 3}:OK {REFUSED},".encode()
    assert said(edge[1]["TCP_TABLE"], b"get 192.0.2.7\n").startswith(b"200 451%204.7.500%20Server")


def test_exim(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert said(edge[1]["READSOCKET"], b"192.0.2.7 25 1\n", until_closed=True) == REFUSED.encode()


def test_a_milter(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    connect = b"C" + b"mail.example.net\0" + b"4" + struct.pack(">H", 25) + IP.encode() + b"\0"
    packets = [connect, b"M<a@example.net>\0"]
    answer = said(edge[1]["MILTER"], b"".join(struct.pack(">I", len(packet)) + packet for packet in packets))
    assert answer == struct.pack(">I", 1) + b"c" + struct.pack(">I", len(REFUSED) + 2) + b"y" + REFUSED.encode() + b"\0"


def test_dns_over_udp_and_tcp(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    place = ("127.0.0.1", edge[1]["DNS"])
    for tcp in (False, True):
        question = DNSRecord.question("7.2.0.192.blocked.example", "A")
        answer = DNSRecord.parse(question.send(*place, tcp=tcp, timeout=10))
        assert [str(found.rdata) for found in answer.rr] == ["127.0.0.2"]
    text = DNSRecord.parse(DNSRecord.question("7.2.0.192.blocked.example", "TXT").send(*place, timeout=10))
    assert REFUSED in str(text.rr[0].rdata)


def test_http(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    status, body = edge[0].get(f"/v1/decisions/{IP}")
    assert status == 200
    assert REFUSED.encode() in body
    assert edge[0].get("/v1/decisions/nonsense")[0] == 400
    assert edge[0].get("/nonsense")[0] == 404
    assert edge[0].health()["fresh"] is True


LINES = (
    b"config|ready\n"
    b"report|0.6|1.0|smtp-in|link-connect|abc|mail.example.net|pass|192.0.2.7:1025|203.0.113.1:25\n"
    b"filter|0.6|1.1|smtp-in|mail-from|abc|t1|a@example.net\n"
)
REGISTERED = REGISTRATION.decode().splitlines()


def filtered(port: int) -> list[str]:
    """What the filter says to `LINES`."""
    command = [sys.executable, "-m", "engine.cli", "filter", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(LINES)
        process.stdin.flush()
        lines = [process.stdout.readline().decode().rstrip("\n") for _ in range(len(REGISTERED) + 1)]
        process.stdin.close()
        assert process.wait(20) == 0
        return lines


def test_opensmtpd_through_its_filter(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert filtered(edge[1]["OPENSMTPD"]) == [*REGISTERED, f"filter-result|abc|t1|reject|{REFUSED}"]


def test_opensmtpds_filter_lets_mail_proceed_without_an_edge_and_with_a_silent_one() -> None:
    proceeds = [*REGISTERED, "filter-result|abc|t1|proceed"]
    assert filtered(free_port()) == proceeds
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert filtered(silent.getsockname()[1]) == proceeds


def test_a_filter_for_no_place_is_refused_in_one_line() -> None:
    ran = tidegate("filter", "nowhere", env=dict(os.environ))
    assert ran.returncode == 2
    assert ran.stderr == b"tidegate: 'nowhere' is no place of an edge: give HOST:PORT or unix:/PATH\n"
