"""Every protocol over the sockets and pipes of a real edge process, which starts from a snapshot and without Kafka."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from dnslib import DNSRecord

from benchmarks.harness.ports import free_port
from engine.edge.protocols.opensmtpd import REGISTRATION
from tests.support.edges import DEFERRAL, THROTTLED_IP, EdgeProcess, Smtpd, write_spent_snapshot
from tests.support.workers import environment, tidegate

LISTENERS = ("MILTER", "SOCKETMAP", "TCP_TABLE", "READSOCKET", "OPENSMTPD", "DNS")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EdgeProcess, dict[str, int]]]:
    folder = tmp_path_factory.mktemp("edge")
    write_spent_snapshot(folder / "state")
    ports = {name: free_port() for name in LISTENERS}
    options: dict[str, object] = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
    with EdgeProcess(env, folder, **options, DNS_ZONE="blocked.example") as running:
        yield running, ports


def ask(port: int, request: bytes, *, until_closed: bool = False) -> bytes:
    """Return a listener's answer to bytes in one piece."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        answer = client.recv(4096)
        while until_closed and (more := client.recv(4096)):
            answer += more
        return answer


def test_policy_request_is_deferred(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert Smtpd(edge[0].policy).ask(THROTTLED_IP, 25, "1") == DEFERRAL


def test_table_lookups_are_deferred(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert ask(edge[1]["SOCKETMAP"], b"18:tidegate 192.0.2.7,") == f"{len(DEFERRAL) + 3}:OK {DEFERRAL},".encode()
    assert ask(edge[1]["TCP_TABLE"], b"get 192.0.2.7\n").startswith(b"200 451%204.7.500%20Server")


def test_readsocket_request_is_deferred(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert ask(edge[1]["READSOCKET"], b"192.0.2.7 25 1\n", until_closed=True) == DEFERRAL.encode()


def test_milter_message_is_deferred(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    connect = b"C" + b"mail.example.net\0" + b"4" + struct.pack(">H", 25) + THROTTLED_IP.encode() + b"\0"
    packets = [connect, b"M<a@example.net>\0"]

    answer = ask(edge[1]["MILTER"], b"".join(struct.pack(">I", len(packet)) + packet for packet in packets))

    assert (
        answer == struct.pack(">I", 1) + b"c" + struct.pack(">I", len(DEFERRAL) + 2) + b"y" + DEFERRAL.encode() + b"\0"
    )


def test_dns_answers_over_udp_and_tcp(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    address = ("127.0.0.1", edge[1]["DNS"])
    for tcp in (False, True):
        question = DNSRecord.question("7.2.0.192.blocked.example", "A")
        answer = DNSRecord.parse(question.send(*address, tcp=tcp, timeout=10))
        assert [str(record.rdata) for record in answer.rr] == ["127.0.0.2"]
    text = DNSRecord.parse(DNSRecord.question("7.2.0.192.blocked.example", "TXT").send(*address, timeout=10))
    assert DEFERRAL in str(text.rr[0].rdata)


def test_http_api_answers(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    status, body = edge[0].get(f"/v1/decisions/{THROTTLED_IP}")
    assert status == 200
    assert DEFERRAL.encode() in body
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
    """Return the filter's answers to `LINES`."""
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


def test_filter_relays_a_rejection_to_opensmtpd(edge: tuple[EdgeProcess, dict[str, int]]) -> None:
    assert filtered(edge[1]["OPENSMTPD"]) == [*REGISTERED, f"filter-result|abc|t1|reject|{DEFERRAL}"]


def test_filter_proceeds_without_an_edge_and_with_a_silent_one() -> None:
    proceeds = [*REGISTERED, "filter-result|abc|t1|proceed"]
    assert filtered(free_port()) == proceeds
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert filtered(silent.getsockname()[1]) == proceeds


def test_filter_with_invalid_address_is_refused_in_one_line() -> None:
    ran = tidegate("filter", "nowhere", env=dict(os.environ))

    assert ran.returncode == 2
    assert ran.stderr == b"tidegate: invalid edge address 'nowhere': give HOST:PORT or unix:/PATH\n"
