"""How soon an operator's word holds: from `release` or `connector add` to the last edge that answers "no opinion".

A worker, three edges and a million live decisions, some thousand of them the worker's own, on an embedded broker. Each order
is given as the command gives it (connecting, reading what is in force, writing) for a sender that every edge defers; the
edges are asked over and over until the last one lets it pass, and the decisions topic is watched until the worker has withdrawn
the decision. Whole commands, Python's start included, are measured beside that. Every sender that nobody spoke of must still
be deferred at the end. Decisions of a replayed month, drawn at random, are computed again from their events, as
`explain --verify` does. A full run ends with what metrics and page cost, and with a browser before the page for ten minutes
(`benchmarks.edge.page_cost`). The last line is one JSON object. Exit status: 0, 1 if an answer was wrong or something broke.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import orjson

from benchmarks.edge import page_cost as watching
from benchmarks.edge.edge_clients import AskedEdge, edges, wait_until_known
from benchmarks.harness import machine
from benchmarks.harness.cluster import Place, make_topics
from benchmarks.harness.errors import Broken
from benchmarks.harness.report import Target
from benchmarks.harness.results import FOLDER, keep
from benchmarks.harness.worker import Worker
from engine.broker import EmbeddedBroker
from engine.cli.override_output import now_ms
from engine.cli.verify import from_files
from engine.config.load import load_settings
from engine.overrides.changes import changes
from engine.overrides.store import order
from engine.pipeline.build import replay
from tests.support.months import write_month
from topics.decisions import decode_decision, encode_decision
from topics.keys import key_of, key_text
from topics.overrides import CONNECTOR, EXEMPT, RELEASE, Override
from topics.partitioner import partition_of

EDGES = 3
PATIENCE_S = 20.0
LASTS_MS = 12 * 3_600_000
MOST_P99_MS = 1_000.0
BURST = 5_000
PREFIX = "operator-"
MONTH_SHARE = 0.12


def sender(number: int) -> str:
    """A sender that the worker throttles; no two share a /16."""
    return f"{11 + number // 256}.{number % 256}.7.9"


def synthetic(number: int) -> str:
    """A network that only the topic knows."""
    return f"{100 + (number >> 20)}.{number >> 12 & 255}.{number >> 4 & 255}.{(number & 15) * 16}/32"


def fill_decisions(place: Place, count: int) -> None:
    """Write so many live decisions that no worker has made."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": place.bootstrap, "linger.ms": 50, "compression.type": "lz4"}
    )
    at_ms = now_ms()
    for number in range(count):
        network = synthetic(number)
        decision = {
            "network": network, "verdict": "throttle", "issued": at_ms, "until": at_ms + LASTS_MS, "rate_per_min": 0.0,
            "burst": 1.0, "reason": "volume", "evidence": {}, "model": "none", "config": "none", "v": 1,
            "reply": {"code": 451, "status": "4.7.500", "tag": "AS10000001", "text": "busy"},
            "source": {"topic": "elsewhere", "partition": 0, "offset": number},
        }  # fmt: skip
        while True:
            try:
                producer.produce(f"{place.prefix}decisions", orjson.dumps(decision), key=network)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)


def send_bursts(place: Place, senders: Sequence[str]) -> None:
    """Events that have the worker throttle each of the senders."""
    producer = confluent_kafka.Producer({"bootstrap.servers": place.bootstrap})
    for ip in senders:
        key, at_ms = key_text(key_of(ip)).encode(), now_ms()
        event = orjson.dumps({"ts": at_ms, "ip": ip, "messages": BURST})
        producer.produce(f"{place.prefix}connections", event, key=key, partition=partition_of(key, 4), timestamp=at_ms)
    producer.flush(60)


class Withdrawals:
    """Watches the decisions topic for tombstones, from now on."""

    def __init__(self, place: Place) -> None:
        self._consumer = confluent_kafka.Consumer({"bootstrap.servers": place.bootstrap, "group.id": f"{PREFIX}watch"})
        topic = f"{place.prefix}decisions"
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(
                    topic,
                    number,
                    self._consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, number), timeout=10)[1],
                )
                for number in range(4)
            ]
        )

    def wait_for(self, network: str, deadline_s: float) -> float:
        """When the network's decision was withdrawn, by the monotonic clock."""
        while time.monotonic() < deadline_s:
            message = self._consumer.poll(0.05)
            if message is not None and message.value() is None and message.key() == network.encode():
                return time.monotonic()
        raise Broken(f"the decision on {network} was not withdrawn")

    def close(self) -> None:
        """Look no more."""
        self._consumer.close()


def ordered(ip: str, number: int) -> Override:
    """The order of that number: releases and connectors by turns, on networks of several lengths around the sender."""
    at_ms, length = now_ms(), (32, 24, 30, 16)[number // 2 % 4]
    whole = int.from_bytes(bytes(map(int, ip.split(".")))) >> 32 - length << 32 - length
    network = f"{'.'.join(map(str, whole.to_bytes(4)))}/{length}"
    if number % 2:
        return Override(network, EXEMPT, CONNECTOR, at_ms, None, owner="benchmark", reason="measured", by="benchmark")
    return Override(network, EXEMPT, RELEASE, at_ms, at_ms + LASTS_MS, reason="measured", by="benchmark")


def last_edge(asked: Sequence[AskedEdge], ip: str, started_s: float) -> float:
    """Seconds until no edge defers the address any more."""
    left = list(asked)
    while left:
        left = [edge for edge in left if edge.verdict(ip)["verdict"] == "defer"]
        if time.monotonic() - started_s > PATIENCE_S:
            raise Broken(f"{len(left)} edges still defer {ip} after {PATIENCE_S:g} s")
    return time.monotonic() - started_s


def measure_orders(place: Place, asked: Sequence[AskedEdge], senders: Sequence[str]) -> dict[str, list[float]]:
    """Give an order for each sender; seconds until it was acknowledged, until the last edge, until the withdrawal."""
    settings, found = place.settings(), {name: list[float]() for name in ("acknowledged", "edge", "withdrawal")}
    with ThreadPoolExecutor(2) as beside, closing(Withdrawals(place)) as withdrawals:
        for number, ip in enumerate(senders):
            override, started_s = ordered(ip, number), time.monotonic()
            edge = beside.submit(last_edge, asked, ip, started_s)
            gone = beside.submit(withdrawals.wait_for, f"{ip}/32", started_s + PATIENCE_S)
            made = asyncio.run(order(settings, override.created, partial(changes, [override])))
            if [change.kind for change in made] != ["add"]:
                raise Broken(f"{override.network}: {made}")
            found["acknowledged"].append(time.monotonic() - started_s)
            found["edge"].append(edge.result())
            found["withdrawal"].append(gone.result() - started_s)
    return found


def measure_commands(place: Place, asked: Sequence[AskedEdge], senders: Sequence[str]) -> list[float]:
    """The same with `tidegate release` as a process; seconds from its start."""
    found = []
    for ip in senders:
        command, started_s = [sys.executable, "-m", "engine.cli", "release", ip, "--grace", "2h"], time.monotonic()
        process = subprocess.Popen(command, env=place.environment(), stdout=subprocess.DEVNULL)
        found.append(last_edge(asked, ip, started_s))
        if process.wait(PATIENCE_S):
            raise Broken(f"`tidegate release {ip}` ended with {process.returncode}")
    return found


def measured(broker: EmbeddedBroker, folder: Path, given: argparse.Namespace) -> dict[str, list[float]]:
    """All of it."""
    place = Place(broker.bootstrap, PREFIX)
    make_topics(place)
    fill_decisions(place, given.decisions)
    senders = [sender(number) for number in range(given.orders + given.commands + given.others)]
    send_bursts(place, senders)
    with Worker(place.environment(), folder), edges(place, folder, given.edges) as asked:
        wait_until_known(asked, given.decisions + len(senders))
        for edge in asked:
            for ip in senders:
                edge.spend(ip)
        found = measure_orders(place, asked, senders[: given.orders])
        found["command"] = measure_commands(place, asked, senders[given.orders : given.orders + given.commands])
        others = senders[given.orders + given.commands :]
        passed = [ip for edge in asked for ip in others if edge.verdict(ip)["verdict"] != "defer"]
        if passed:
            raise Broken(f"{len(passed)} senders that nobody spoke of pass, {passed[0]} among them")
    return found


def verified_share(folder: Path, count: int) -> float:
    """The share of so many decisions of a simulated month that are equal byte for byte when they are computed again."""
    settings, month = (
        load_settings(None, {}, {"model.learning_days": 0}),
        write_month(folder / "month.ndjson", MONTH_SHARE),
    )
    with month.open("rb") as events:
        decisions = [decision for made in replay(settings).run(events) for decision in made]
    chosen = random.Random(1).sample(decisions, min(count, len(decisions)))
    given = [decode_decision(encode_decision(decision)) for decision in chosen]
    answer = from_files(settings, None, [str(month)], given)
    return sum(one.equal for one in answer.found) / len(chosen)


def figures(found: dict[str, list[float]]) -> dict[str, float]:
    """The last line's figures."""

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


def page_cost(browser_minutes: float) -> dict[str, Any]:
    """What metrics and page cost, and whether a page that stays open grows."""
    cost = watching.run_and_keep(watching.sizes(["--browser-minutes", str(browser_minutes)]))
    names = ("page_heap_growth", "page_rss_growth")
    grown: dict[str, Any] = {name: cost[name] for name in names if name in cost}
    first_view_ms = round(1000 * cost["first_view_s"]["most"])
    return {"page_first_view_ms": first_view_ms, "metrics_cost_share": cost["lost"], **grown}


def main() -> int:
    """Run it; 1 if something broke or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=EDGES)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--commands", type=int, default=30)
    parser.add_argument("--browser-minutes", type=float, default=10.0, help="a browser has the page open; 0: none")
    parser.add_argument("--results", type=Path, default=FOLDER / "operators.ndjson")
    parser.add_argument("--small", action="store_true", help="under a minute: checks the answers only, keeps nothing")
    given = parser.parse_args()
    given.others, given.verified = 50, 1000
    if given.small:
        given.decisions, given.edges, given.orders, given.commands = 2_000, 2, 8, 1
    stamp = machine.stamp()
    try:
        with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder) / "broker") as broker:
            found = measured(broker, Path(folder), given)
            equal = verified_share(Path(folder), given.verified)
    except Broken as broken:
        print(f"no result: {broken}", file=sys.stderr)
        return 1
    result: dict[str, Any] = figures(found) | {"explain_verified": equal}
    if not given.small:
        result |= page_cost(given.browser_minutes)
    bound = Target("p99 in ms from an order to the last edge", result["release_to_edge_p99_ms"], MOST_P99_MS, False)
    again = Target("share of decisions that are equal when computed again", equal, 1.0, True)
    losses = [target.text() for target in (bound, again) if not target.kept]
    print(f"Falls short: {'; '.join(losses)}." if losses else "Nothing falls short.")
    if not given.small:
        sizes = {name: getattr(given, name) for name in ("decisions", "edges", "orders", "commands")}
        keep({"sizes": sizes, "machine": stamp, "seconds": found, "figures": result}, given.results)
    print(orjson.dumps(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
