"""From event to 451: how long after the event that makes a sender too much has entered Kafka the wire says so.

The whole way with nothing left out: an event on the connections topic, a worker's decision, an edge, and a real Postfix that
is asked again and again by a client with the sender's address, each time with a message of its own. Time runs from just before
the event is handed to the producer until the client reads its first 451; what a new throttle still lets pass counts against
it. Each sender must have been let in before, and must be told the whole reply. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import confluent_kafka
import orjson
import pytest

from benchmarks.harness.errors import Broken
from benchmarks.harness.machine import stamp
from benchmarks.harness.report import Target
from benchmarks.harness.results import FOLDER, keep
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
    """An address that nobody has seen, of networks set aside for benchmarks; each in a /16 with few others."""
    return f"{100 + number % 50}.{number // 50 % 200}.{number // 10_000}.7"


class Wire:
    """Postfix, and a producer of events."""

    def __init__(self, server: Postfix, bootstrap: str, prefix: str) -> None:
        self._server, self._topic = server, f"{prefix}connections"
        self._producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def latency_s(self, ip: str) -> float:
        """Seconds from event to 451 for one sender. `Broken` if it hears something else, or nothing for long."""
        event = {"ts": int(time.time() * 1000), "ip": ip, "messages": MESSAGES}
        with self._server.client(ip) as smtp:
            first = smtp.message()
            if not first.startswith("250"):
                raise Broken(f"{ip} was not let in before its event: {first}")
            began_s = time.perf_counter()
            self._producer.produce(self._topic, orjson.dumps(event), key=key_text(key_of(ip)).encode())
            self._producer.poll(0)
            while not (said := smtp.offer()).startswith("451"):
                if time.perf_counter() - began_s > GIVE_UP_S:
                    raise Broken(f"{ip} still hears {said!r} after {GIVE_UP_S:g} s")
            took_s = time.perf_counter() - began_s
        if not self._server.refused(said, ip):
            raise Broken(f"{ip} hears {said!r}, which is not the whole reply")
        return took_s


def measure(senders: int, folder: Path) -> list[float]:
    """Seconds of each sender, in turn, after a tenth as many that only warm up."""
    prepare()
    with EmbeddedBroker(folder / "broker") as broker:
        env = environment(broker.bootstrap, "wire-", PARTITIONS)
        if tidegate("topics", "--create", env=env).returncode:
            raise Broken("the topics can't be created")
        with WorkerProcess(env, folder) as worker, EdgeProcess(env, folder / "edge") as edge:
            worker.wait_for(PARTITIONS, 0)
            edge.wait_for(lambda figures: figures["fresh"] == 1)
            with Postfix(edge.policy, 0) as server:
                wire, warm = Wire(server, broker.bootstrap, "wire-"), max(1, senders // 10)
                return [wire.latency_s(sender(number)) for number in range(senders + warm)][warm:]


def main() -> int:
    """Run it; 1 if something broke or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--senders", type=int, default=200)
    parser.add_argument("--results", type=Path, default=FOLDER / "wire.ndjson")
    parser.add_argument("--small", action="store_true", help="a few senders: checks the answers only, keeps nothing")
    given = parser.parse_args()
    given.senders = 5 if given.small else min(given.senders, MOST_SENDERS)
    machine = stamp()
    try:
        with tempfile.TemporaryDirectory() as folder:
            took_ms = [took_s * 1000 for took_s in measure(given.senders, Path(folder))]
    except (Broken, AssertionError, pytest.skip.Exception) as broken:
        print(f"no result: {broken}", file=sys.stderr)
        return 1
    p99 = statistics.quantiles(took_ms, n=100, method="inclusive")[98]
    found = {"wire_p50_ms": round(statistics.median(took_ms), 1), "wire_p99_ms": round(p99, 1)}
    found |= {"wire_most_ms": round(max(took_ms), 1), "senders": given.senders}
    targets = [
        Target("event to 451, median in ms", found["wire_p50_ms"], MOST_P50_MS, False),
        Target("event to 451, p99 in ms", found["wire_p99_ms"], MOST_P99_MS, False),
    ]
    print("\n".join(target.text() + ("" if target.kept else ": falls short") for target in targets))
    if not given.small:
        keep({"machine": machine, "took_ms": [round(ms, 2) for ms in took_ms], "figures": found}, given.results)
    print(orjson.dumps(found).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
