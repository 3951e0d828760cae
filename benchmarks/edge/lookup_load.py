"""The load of the look-up benchmark, the same for all servers: one process, one thread, a compiled loop (`lookup_loop`).

Closed load: each connection asks again as soon as it has its answer; this gives the rate. Open load: requests are due at a
fixed rate even if answers are late, and latency counts from the time at which a request was due; this gives percentiles.
Every answer is compared with the right one. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import random
import select
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import orjson

from benchmarks.edge.lookup_loop import (
    ANSWERS,
    BROKEN,
    CPU_NS,
    RECORDED,
    SECOND_NS,
    WRONG,
    asked,
    closed,
    opened,
    wires,
)
from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import ROOT

QUESTIONS = 50_000
WARM_UP_SHARE = 0.2
MOST_LATENCIES = 2_000_000
POLICY = (  # as Postfix sends it, in its order
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address={ip}\n"
    "client_name=mail.example.net\nclient_port={port}\nreverse_client_name=mail.example.net\nserver_address=203.0.113.1\n"
    "server_port=25\nhelo_name=mail.example.net\nsender=news@example.net\nrecipient=somebody@example.org\n"
    "recipient_count=0\nqueue_id=\ninstance={number:x}.5f3c8a11.{number}.0\nsize=12345\netrn_domain=\nstress=\n"
    "sasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n"
    "ccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"
    "encryption_keysize=256\npolicy_context=\n\n"
)


class Question(NamedTuple):
    """A request, and how the right answer begins."""

    request: bytes
    beginning: bytes


def address(number: int) -> str:
    """Return an address that decision ``number`` covers: IPv4, every fourth an IPv6 within its /64."""
    if number % 4 == 3:
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) + (number << 64) + 0x25))
    return str(ipaddress.IPv4Address(0x0B000000 + number))


def questions(protocol: str, decisions: int, seed: int) -> list[Question]:
    """Return `QUESTIONS` questions, half of them about throttled addresses."""
    draw, made = random.Random(seed), []
    for number in range(QUESTIONS):
        known = draw.random() < 0.5
        ip = address(draw.randrange(decisions)) if known else f"203.{draw.randrange(256)}.{draw.randrange(256)}.9"
        if protocol == "policy":
            text = POLICY.format(ip=ip, number=number, port=1024 + number)
            made.append(Question(text.encode(), b"action=451 4.7.500 " if known else b"action=DUNNO\n\n"))
        elif protocol == "redis":
            request = f"*2\r\n$3\r\nGET\r\n${len(ip)}\r\n{ip}\r\n".encode()
            made.append(Question(request, b"$2\r\n" if known else b"$-1\r\n"))
        else:
            request = f"GET /v1/decisions/{ip} HTTP/1.1\r\nHost: edge\r\n\r\n".encode()
            made.append(Question(request, b"HTTP/1.1 200 OK"))
    return made


def load(given: argparse.Namespace) -> dict[str, Any]:
    """Ask all questions and return the figures; ConnectionError if a connection was closed."""
    drawn = questions(given.protocol, given.decisions, given.seed)
    total = int(given.rate * given.seconds)
    asking = asked(drawn)
    with contextlib.ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", given.port))) for _ in range(given.connections)
        ]
        for connected in sockets:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections = wires(sockets, epoll, total or MOST_LATENCIES)
        if total:
            rate = opened(asking, connections, SECOND_NS / given.rate, total)
        else:
            warm_ns, measured_ns = given.seconds * WARM_UP_SHARE * SECOND_NS, given.seconds * SECOND_NS
            rate = closed(asking, connections, int(warm_ns), int(measured_ns))
    if rate == BROKEN:
        raise ConnectionError("a connection was closed")
    recorded = int(connections.counts[RECORDED])
    latencies_ms = connections.latencies_ns[int(total * WARM_UP_SHARE) : recorded] / 1e6
    p50, p99, p999 = np.percentile(latencies_ms, [50, 99, 99.9])
    return {
        "per_s": rate,
        "answers": int(connections.counts[ANSWERS]),
        "wrong": int(connections.counts[WRONG]),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "most_ms": float(latencies_ms.max()),
        "load_cpu_us": int(connections.counts[CPU_NS]) / 1e3 / max(1, rate * given.seconds),
    }


def run_load(
    port: int, protocol: str, connections: int, decisions: int, seconds: float, rate: float = 0.0
) -> dict[str, Any]:
    """Run one load in a process of its own; `WrongAnswer` if an answer was wrong."""
    options = {"port": port, "protocol": protocol, "connections": connections, "decisions": decisions}
    options |= {"seconds": seconds, "rate": rate}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.edge.lookup_load", *words]
    ran = subprocess.run(command, capture_output=True, cwd=ROOT, check=False, timeout=seconds * 3 + 120)
    if ran.returncode:
        raise Broken(f"the load on {protocol} ended: {ran.stderr.decode().strip().splitlines()[-1]}")
    measured: dict[str, Any] = orjson.loads(ran.stdout)
    if measured["wrong"] or not measured["answers"]:
        raise WrongAnswer(f"{measured['wrong']} of {measured['answers']} answers of {protocol} were wrong")
    return measured


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=["policy", "redis", "http"], required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--decisions", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second of an open load; 0: closed load")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.stdout.buffer.write(orjson.dumps(load(given)))


if __name__ == "__main__":
    main()
