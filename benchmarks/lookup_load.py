"""The load of the look-up benchmark, the same for everybody: one process, one thread, plain sockets and epoll.

Closed load: each connection asks again as soon as it has its answer; that gives the rate. Open load: requests are due at a
fixed rate whoever is slow, and latency counts from the moment at which a request was due; that gives percentiles. Every answer
is compared with what it must be. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import ipaddress
import random
import select
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

import numpy as np
import orjson

QUESTIONS = 50_000
WARM_UP_SHARE = 0.2
POLICY = """request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address={ip}
client_name=mail.example.net
client_port={port}
reverse_client_name=mail.example.net
server_address=203.0.113.1
server_port=25
helo_name=mail.example.net
sender=news@example.net
recipient=somebody@example.org
recipient_count=0
queue_id=
instance={number:x}.5f3c8a11.{number}.0
size=12345
etrn_domain=
stress=
sasl_method=
sasl_username=
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=

"""


class Question(NamedTuple):
    """What is sent, and how the answer must begin."""

    octets: bytes
    beginning: bytes


def address(number: int) -> str:
    """The address of the decision with this number: IPv4, every fourth an IPv6 inside of its /64."""
    if number % 4 == 3:
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) + (number << 64) + 0x25))
    return str(ipaddress.IPv4Address(0x0B000000 + number))


def questions(protocol: str, decisions: int, seed: int) -> list[Question]:
    """Half of them about throttled addresses, half about others."""
    draw, made = random.Random(seed), []
    for number in range(QUESTIONS):
        known = draw.random() < 0.5
        ip = address(draw.randrange(decisions)) if known else f"203.{draw.randrange(256)}.{draw.randrange(256)}.9"
        if protocol == "policy":
            text = POLICY.format(ip=ip, number=number, port=1024 + number)
            made.append(Question(text.encode(), b"action=451 4.7.500 " if known else b"action=DUNNO\n\n"))
        elif protocol == "redis":
            octets = f"*2\r\n$3\r\nGET\r\n${len(ip)}\r\n{ip}\r\n".encode()
            made.append(Question(octets, b"$2\r\n" if known else b"$-1\r\n"))
        else:
            octets = f"GET /v1/decisions/{ip} HTTP/1.1\r\nHost: edge\r\n\r\n".encode()
            made.append(Question(octets, b"HTTP/1.1 200 OK"))
    return made


class Load:
    """Connections to a port, each with at most one question under way."""

    def __init__(self, port: int, connections: int, asked: list[Question]) -> None:
        self._epoll = select.epoll()
        self._asked, self._next = asked, 0
        self._sockets: dict[int, socket.socket] = {}
        self._expected: dict[int, bytes] = {}
        self._due_s: dict[int, float] = {}
        self.latencies_s: list[float] = []
        self.answers = self.wrong = 0
        for _ in range(connections):
            connected = socket.create_connection(("127.0.0.1", port))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[connected.fileno()] = connected
            self._epoll.register(connected.fileno(), select.EPOLLIN)

    def ask(self, number: int, due_s: float) -> None:
        """Send the next question on a connection."""
        question = self._asked[self._next % len(self._asked)]
        self._next += 1
        self._expected[number], self._due_s[number] = question.beginning, due_s
        self._sockets[number].sendall(question.octets)

    def take(self, timeout_s: float) -> list[int]:
        """Take the answers that are there, waiting up to a time for the first; the connections that are free again."""
        free = [number for number, _ in self._epoll.poll(timeout_s)]
        for number in free:
            answer = self._sockets[number].recv(4096)
            if not answer:
                raise ConnectionError("a connection was closed")
            self.wrong += not answer.startswith(self._expected[number])
            self.answers += 1
        now_s = time.perf_counter()
        self.latencies_s += [now_s - self._due_s[number] for number in free]
        return free

    def closed(self, seconds: float) -> float:
        """Ask as fast as answers come; answers a second."""
        end_s = time.perf_counter() + seconds * WARM_UP_SHARE
        for number in self._sockets:
            self.ask(number, time.perf_counter())
        counted_from, began_s = 0, 0.0
        while True:
            now_s = time.perf_counter()
            if now_s > end_s:
                if began_s:
                    return (self.answers - counted_from) / (now_s - began_s)
                counted_from, began_s, end_s = self.answers, now_s, now_s + seconds
            for number in self.take(1.0):
                self.ask(number, now_s)

    def open(self, rate: float, seconds: float) -> None:
        """Ask at a fixed rate for a time."""
        free, began_s, sent = deque(self._sockets), time.perf_counter(), 0
        warm = int(rate * seconds * WARM_UP_SHARE)
        while sent < rate * seconds:
            now_s = time.perf_counter()
            while free and began_s + sent / rate <= now_s:
                self.ask(free.popleft(), began_s + sent / rate)
                sent += 1
            wait_s = 1.0 if not free else max(0.0, began_s + sent / rate - now_s)
            free.extend(self.take(wait_s if wait_s > 0.001 else 0.0))
        while len(free) < len(self._sockets):
            free.extend(self.take(1.0))
        self.latencies_s = self.latencies_s[warm:]


def main() -> None:
    """Run one load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=["policy", "redis", "http"], required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--decisions", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="open load; without it, closed")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    load = Load(given.port, given.connections, questions(given.protocol, given.decisions, given.seed))
    rate = given.rate
    if rate:
        load.open(rate, given.seconds)
    else:
        rate = load.closed(given.seconds)
    p50, p99, p999 = np.percentile(load.latencies_s, [50, 99, 99.9]) * 1000
    sys.stdout.buffer.write(
        orjson.dumps(
            {
                "per_s": rate,
                "answers": load.answers,
                "wrong": load.wrong,
                "p50_ms": float(p50),
                "p99_ms": float(p99),
                "p999_ms": float(p999),
                "most_ms": float(max(load.latencies_s) * 1000),
            }
        )
    )


if __name__ == "__main__":
    main()
