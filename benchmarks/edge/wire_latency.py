"""The time from an event to the 451: from its arrival in Kafka until a real Postfix defers its sender (`make bench-wire`).

The whole path: an event on the connections topic, a worker's decision, an edge, and a Postfix, asked again and again by a
client with the sender's address, each time with another message. Time runs from just before the event is handed to the
producer until the client reads its first 451; messages that a new throttle still admits count against it. Each sender must
have been accepted before, and must get the whole reply.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
import orjson
import pytest

from benchmarks.harness import command
from benchmarks.harness.command import Report, new_parser, parse
from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import FOLDER, Target
from engine.broker import EmbeddedBroker
from engine.broker.prepare import prepare
from tests.support.edges import EdgeProcess
from tests.support.workers import WorkerProcess, environment, tidegate
from tests.system.mta.servers import Postfix
from topics.keys import key_of, key_text

PARTITIONS = 4
MESSAGES = 5_000
GIVE_UP_S = 20.0
MOST_P50_MS, MOST_P99_MS = 300.0, 1000.0
MOST_SENDERS = 60_000


def sender(number: int) -> str:
    """Return an unknown address, in a /16 with few others."""
    return f"{100 + number % 50}.{number // 50 % 200}.{number // 10_000}.7"


class Wire:
    """Postfix, and a producer of events."""

    def __init__(self, server: Postfix, bootstrap: str, prefix: str) -> None:
        self._server, self._topic = server, f"{prefix}connections"
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def latency_s(self, ip: str) -> float:
        """Return the seconds from event to 451 for one sender; `WrongAnswer` if it gets another reply, or waits too long."""
        event = {"ts": int(time.time() * 1000), "ip": ip, "messages": MESSAGES}
        with self._server.client(ip) as smtp:
            first = smtp.message()
            if not first.startswith("250"):
                raise WrongAnswer(f"{ip} was not accepted before its event: {first}")
            began_s = time.perf_counter()
            self._producer.produce(self._topic, orjson.dumps(event), key=key_text(key_of(ip)).encode())
            self._producer.poll(0)
            while not (reply := smtp.offer()).startswith("451"):
                if time.perf_counter() - began_s > GIVE_UP_S:
                    raise WrongAnswer(f"{ip} still gets {reply!r} after {GIVE_UP_S:g} s")
            took_s = time.perf_counter() - began_s
        if not self._server.refused(reply, ip):
            raise WrongAnswer(f"{ip} gets {reply!r}, which is not the whole reply")
        return took_s


def latencies_ms(senders: int, folder: Path) -> list[float]:
    """Return the milliseconds of each sender, in turn, after a tenth as many that only warm up."""
    prepare()
    with EmbeddedBroker(folder / "broker") as broker:
        env = environment(broker.bootstrap, "wire-", PARTITIONS)
        if tidegate("topics", "--create", env=env).returncode:
            raise Broken("the topics can't be created")
        with WorkerProcess(env, folder) as worker, EdgeProcess(env, folder / "edge") as edge:
            worker.wait_for(PARTITIONS, 0)
            edge.wait_for(lambda figures: figures["fresh"] == 1)
            with Postfix(edge.policy, 0) as server:
                wire, warm_up = Wire(server, broker.bootstrap, "wire-"), max(1, senders // 10)
                return [1000 * wire.latency_s(sender(number)) for number in range(senders + warm_up)][warm_up:]


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure every sender."""
    senders = min(given.senders, MOST_SENDERS)
    try:
        took_ms = latencies_ms(senders, folder)
    except (AssertionError, pytest.skip.Exception) as error:  # of the mail servers that tests start
        raise Broken(str(error)) from error
    p99 = statistics.quantiles(took_ms, n=100, method="inclusive")[98]
    found = {"wire_p50_ms": round(statistics.median(took_ms), 1), "wire_p99_ms": round(p99, 1)}
    found |= {"wire_most_ms": round(max(took_ms), 1), "senders": senders}
    targets = (
        Target("event to 451, median in ms", found["wire_p50_ms"], MOST_P50_MS),
        Target("event to 451, p99 in ms", found["wire_p99_ms"], MOST_P99_MS),
    )
    return Report(found, {"took_ms": [round(ms, 2) for ms in took_ms]}, targets=targets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "wire.ndjson")
    parser.add_argument("--senders", type=int, default=200)
    return command.run(measure, parse(parser, {"senders": 5}, arguments))


if __name__ == "__main__":
    sys.exit(main())
