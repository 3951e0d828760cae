"""The time until an override applies: from `release` or `connector add` to the last edge that admits the sender.

A worker, three edges and a million active decisions, some hundreds of them the worker's own, on an embedded broker. Each
override is written as the command writes it (connect, read the active overrides, write) for a sender that every edge
defers. The edges are asked repeatedly until the last one admits the sender, and the decisions topic is read until the worker
has withdrawn the decision. Whole commands, with Python's start, are measured too. At the end every sender without an
override must still be deferred. Decisions of a replayed month, drawn at random, are computed again from their events, as
`explain --verify` does.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import confluent_kafka
import numpy as np
import orjson

from benchmarks.harness import command
from benchmarks.harness.command import Report, new_parser, parse
from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import FOLDER, Target
from benchmarks.harness.topic_space import TopicSpace, make_topics, publish_throttles, send_event
from benchmarks.harness.worker import Worker
from engine.broker import EmbeddedBroker
from engine.cli.override_output import now_ms
from engine.cli.verify import from_files
from engine.config.load import load_settings
from engine.overrides.changes import ADDS, plan_overrides
from engine.overrides.store import apply_plan
from engine.pipeline.build import replay
from tests.support.edges import EdgeProcess, Smtpd
from tests.support.months import write_month
from topics.contracts import DECISIONS
from topics.decisions import decode_decision, encode_decision
from topics.keys import key_of
from topics.overrides import CONNECTOR, EXEMPT, RELEASE, Override

PATIENCE_S, LOAD_S = 20.0, 600.0
MESSAGES = 2_000
LASTS_MS = 12 * 3_600_000
MOST_P99_MS = 1_000.0
BURST = 5_000
PREFIX = "override-"
MONTH_SHARE = 0.12
OTHERS = 50  # senders without an override
VERIFIED = 1000  # decisions that are computed again
SMALL = {"decisions": 2_000, "edges": 2, "orders": 8, "commands": 1}
Seconds = dict[str, list[float]]


def sender(number: int) -> str:
    """Return a sender that the worker throttles; no two share a /16."""
    return f"{11 + number // 256}.{number % 256}.7.9"


def synthetic(number: int) -> str:
    """Return a network without events."""
    return f"{100 + (number >> 20)}.{number >> 12 & 255}.{number >> 4 & 255}.{(number & 15) * 16}/32"


def send_bursts(space: TopicSpace, senders: Sequence[str]) -> None:
    """Send events that make the worker throttle each of the senders."""
    producer = confluent_kafka.Producer({"bootstrap.servers": space.bootstrap})
    for ip in senders:
        send_event(producer, space, key_of(ip), BURST)
    producer.flush(60)


@contextmanager
def loaded_edges(space: TopicSpace, folder: Path, count: int, decisions: int) -> Iterator[list[EdgeProcess]]:
    """Run edges until each has so many decisions and trusts them."""
    with ExitStack() as stack:
        options = {"EVENTS": "off", "SNAPSHOT_INTERVAL_S": 3600}
        edges = [
            stack.enter_context(EdgeProcess(space.environment(), folder / f"edge-{number}", **options))
            for number in range(count)
        ]
        deadline_s = time.monotonic() + LOAD_S
        for edge in edges:
            while (found := edge.figures())["decisions"] < decisions or not found["fresh"]:
                if time.monotonic() > deadline_s:
                    raise Broken(f"an edge has {found['decisions']:,.0f} decisions after {LOAD_S:g} s")
                time.sleep(0.2)
        yield edges


def use_up(edge: EdgeProcess, senders: Sequence[str]) -> None:
    """Offer messages of each sender until one is deferred."""
    with closing(Smtpd(edge.policy)) as smtpd:
        for ip in senders:
            if not any(smtpd.ask(ip, 25, f"{ip}.{number}").startswith("451") for number in range(MESSAGES)):
                raise Broken(f"{ip} isn't deferred after {MESSAGES} messages")


def defers(edge: EdgeProcess, ip: str) -> bool:
    """Return True if the edge would defer a message now; consumes no token."""
    return bool(orjson.loads(edge.get(f"/v1/decisions/{ip}")[1])["verdict"] == "defer")


class Withdrawals:
    """Reads the decisions topic for tombstones, from now on."""

    def __init__(self, space: TopicSpace) -> None:
        options = {"bootstrap.servers": space.bootstrap, "group.id": f"{PREFIX}withdrawals"}
        self._consumer, topic = confluent_kafka.Consumer(options), space.prefix + DECISIONS.name
        partitions = [confluent_kafka.TopicPartition(topic, number) for number in range(DECISIONS.partitions)]
        for partition in partitions:
            partition.offset = self._consumer.get_watermark_offsets(partition, timeout=10)[1]
        self._consumer.assign(partitions)

    def wait_for(self, network: str, deadline_s: float) -> float:
        """Return when the network's decision was withdrawn, on the monotonic clock."""
        while time.monotonic() < deadline_s:
            message = self._consumer.poll(0.05)
            if message is not None and message.value() is None and message.key() == network.encode():
                return time.monotonic()
        raise Broken(f"the decision on {network} was not withdrawn")

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def override_of(ip: str, number: int) -> Override:
    """Return override ``number``: releases and connectors in turn, on networks of several lengths around the sender."""
    time_ms, length = now_ms(), (32, 24, 30, 16)[number // 2 % 4]
    whole = int.from_bytes(bytes(map(int, ip.split(".")))) >> 32 - length << 32 - length
    network = f"{'.'.join(map(str, whole.to_bytes(4)))}/{length}"
    if number % 2:
        return Override(network, EXEMPT, CONNECTOR, time_ms, None, owner="benchmark", reason="measured", by="benchmark")
    return Override(network, EXEMPT, RELEASE, time_ms, time_ms + LASTS_MS, reason="measured", by="benchmark")


def last_edge_s(edges: Sequence[EdgeProcess], ip: str, started_s: float) -> float:
    """Return the seconds until no edge defers the address."""
    left = list(edges)
    while left:
        left = [edge for edge in left if defers(edge, ip)]
        if time.monotonic() - started_s > PATIENCE_S:
            raise Broken(f"{len(left)} edges still defer {ip} after {PATIENCE_S:g} s")
    return time.monotonic() - started_s


def measure_overrides(space: TopicSpace, edges: Sequence[EdgeProcess], senders: Sequence[str]) -> Seconds:
    """Write an override per sender; return seconds until acknowledged, until the last edge, until the withdrawal."""
    settings = space.settings()
    found: Seconds = {"acknowledged": [], "edge": [], "withdrawal": []}
    with ThreadPoolExecutor(2) as threads, closing(Withdrawals(space)) as withdrawals:
        for number, ip in enumerate(senders):
            override, started_s = override_of(ip, number), time.monotonic()
            edge_s = threads.submit(last_edge_s, edges, ip, started_s)
            withdrawn_s = threads.submit(withdrawals.wait_for, f"{ip}/32", started_s + PATIENCE_S)
            made = asyncio.run(apply_plan(settings, partial(plan_overrides, [override])))
            if [change.kind for change in made] != [ADDS]:
                raise Broken(f"{override.network}: {made}")
            found["acknowledged"].append(time.monotonic() - started_s)
            found["edge"].append(edge_s.result())
            found["withdrawal"].append(withdrawn_s.result() - started_s)
    return found


def measure_commands(space: TopicSpace, edges: Sequence[EdgeProcess], senders: Sequence[str]) -> list[float]:
    """Do the same with `tidegate release` as a process; return seconds from its start."""
    found = []
    for ip in senders:
        words, started_s = [sys.executable, "-m", "engine.cli", "release", ip, "--grace", "2h"], time.monotonic()
        process = subprocess.Popen(words, env=space.environment(), stdout=subprocess.DEVNULL)
        found.append(last_edge_s(edges, ip, started_s))
        if process.wait(PATIENCE_S):
            raise Broken(f"`tidegate release {ip}` ended with {process.returncode}")
    return found


def measure_seconds(bootstrap: str, folder: Path, given: argparse.Namespace) -> Seconds:
    """Measure overrides and commands."""
    space = TopicSpace(bootstrap, f"{PREFIX}{time.time_ns()}-")
    make_topics(space)
    publish_throttles(space, map(synthetic, range(given.decisions)), LASTS_MS)
    senders = [sender(number) for number in range(given.orders + given.commands + OTHERS)]
    send_bursts(space, senders)
    expected = given.decisions + len(senders)
    with Worker(space.environment(), folder), loaded_edges(space, folder, given.edges, expected) as edges:
        for edge in edges:
            use_up(edge, senders)
        found = measure_overrides(space, edges, senders[: given.orders])
        found["command"] = measure_commands(space, edges, senders[given.orders : given.orders + given.commands])
        others = senders[given.orders + given.commands :]
        admitted = [ip for edge in edges for ip in others if not defers(edge, ip)]
        if admitted:
            raise WrongAnswer(f"{len(admitted)} senders without an override are admitted, {admitted[0]} among them")
    return found


def verified_share(folder: Path, count: int) -> float:
    """Return the share of a simulated month's decisions that are equal byte for byte when they are computed again."""
    settings = load_settings(None, {}, {"model.learning_days": 0})
    month = write_month(folder / "month.ndjson", MONTH_SHARE)
    with month.open("rb") as events:
        decisions = [decision for made in replay(settings).run(events) for decision in made]
    chosen = random.Random(1).sample(decisions, min(count, len(decisions)))
    given = [decode_decision(encode_decision(decision)) for decision in chosen]
    answer = from_files(settings, None, [str(month)], given)
    return sum(decision.is_equal for decision in answer.decisions) / len(chosen)


def figures(found: Seconds) -> dict[str, float]:
    """Return the last line's figures."""

    def ms(name: str, percent: float) -> float:
        return round(float(np.percentile(found[name], percent)) * 1000, 1)

    return {
        "release_to_edge_p99_ms": ms("edge", 99),
        "release_to_edge_p50_ms": ms("edge", 50),
        "release_to_withdrawal_p99_ms": ms("withdrawal", 99),
        "release_acknowledged_p50_ms": ms("acknowledged", 50),
        "release_command_to_edge_p50_ms": ms("command", 50),
        "release_command_to_edge_p99_ms": ms("command", 99),
    }


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure on a broker of its own."""
    with EmbeddedBroker(folder / "broker") as broker:
        seconds = measure_seconds(broker.bootstrap, folder, given)
    equal = verified_share(folder, VERIFIED)
    found = figures(seconds) | {"explain_verified": equal}
    target = Target("p99 in ms from an override to the last edge", found["release_to_edge_p99_ms"], MOST_P99_MS)
    wrong = [] if equal == 1.0 else [f"{1 - equal:.1%} of the decisions differ when they are computed again"]
    return Report(found, {"seconds": seconds}, targets=[target], wrong=wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "operators.ndjson")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="active decisions on the topic")
    parser.add_argument("--edges", type=int, default=3)
    parser.add_argument("--orders", type=int, default=200, help="overrides")
    parser.add_argument("--commands", type=int, default=30, help="whole commands")
    return command.run(measure, parse(parser, SMALL, arguments))


if __name__ == "__main__":
    sys.exit(main())
