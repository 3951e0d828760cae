"""What do a worker's metrics and page cost? `python benchmarks/edge/page_cost.py` or `make bench-watching`.

One embedded broker, a topic filled once; workers read all of it in turn: one that nobody watches (`worker.http` empty), and
one that is scraped every second, fifteen times as often as by a usual Prometheus, while its page is open (an overview and the
overrides every two seconds). What is lost is the ratio of the medians. Then, on a worker that knows all the senders, with
ten thousand throttles in force: how long from asking for the page to all that its first view needs, and whether a browser that
has the page open for minutes grows (`benchmarks.edge.page_growth`).

Every run must have counted each event once, else the answer is wrong and the exit status 1. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from benchmarks.edge import page_growth as page_memory
from benchmarks.harness import cluster, machine
from benchmarks.harness.cluster import Place
from benchmarks.harness.errors import Broken
from benchmarks.harness.ports import free_port
from benchmarks.harness.results import FOLDER, keep
from benchmarks.harness.worker import EngineRun, Worker, measured
from benchmarks.harness.workload import Workload
from engine.broker import EmbeddedBroker
from topics.contracts import DECISIONS
from topics.errors import OperatorError

KEPT = FOLDER / "watching.ndjson"
SCRAPE_S, LOOK_S = 1.0, 2.0
FIRST_VIEW = ("/", "/page.css", "/page.js", "/v1/overview", "/v1/overrides")
MOST_LOST, MOST_FIRST_S = 0.02, 1.0
WAIT_S = 60.0


@dataclass
class Watch:
    """Asks a worker for its figures and its page, from a thread; ``took_s`` of each path's answers."""

    port: int
    took_s: dict[str, list[float]] = field(default_factory=dict)

    def ask(self, path: str) -> bytes:
        """One answer; `Broken` if it is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        started_s = time.perf_counter()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Broken(f"{path} was answered with status {response.status}")
        self.took_s.setdefault(path, []).append(time.perf_counter() - started_s)
        return body

    def _turns(self, paths: tuple[str, ...], every_s: float, ending: threading.Event) -> None:
        while not ending.wait(every_s):
            for path in paths:
                with contextlib.suppress(OSError):  # it doesn't listen yet, or any more
                    self.ask(path)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask for as long as the block lasts."""
        ending = threading.Event()
        work = [(("/metrics",), SCRAPE_S), (("/v1/overview", "/v1/overrides"), LOOK_S)]
        threads = [threading.Thread(target=self._turns, args=(*one, ending), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join()


def run(place: Place, folder: Path, watch: Watch | None) -> EngineRun:
    """A fresh worker over the whole topic, watched or not."""
    cluster.empty_outputs(place)
    last = {number: end - 1 for number, end in cluster.ends(place).items()}
    listen = f"127.0.0.1:{watch.port}" if watch else ""
    with Worker(place.environment(f"bench-{time.time_ns()}", TIDEGATE_WORKER_HTTP=listen), folder) as worker:
        if watch is None:
            samples = worker.until_durable(last)
        else:
            with watch.going_on():
                samples = worker.until_durable(last)
    return measured(samples, last, worker.started_s)


async def throttle(place: Place, count: int) -> None:
    """So many throttles in force, on the topic."""
    now_ms = int(time.time() * 1000)
    figures = {"counters": {"24h": 293.0}, "limits": {"24h": 292.5}, "peaks": {"24h": 87.0}, "active_days": 24}
    evidence = {"scales": ["24h"], **figures}
    reply = {"code": 451, "status": "4.7.500", "tag": "AS10000001", "text": "Server busy."}
    producer = AIOKafkaProducer(**place.settings().kafka.client_options())
    await producer.start()
    try:
        for i in range(count):
            network = f"198.18.{i >> 8 & 255}.{i & 255}/32" if i < 65_536 else f"198.19.{i >> 8 & 255}.{i & 255}/32"
            decision = {
                "network": network, "verdict": "throttle", "issued": now_ms, "until": now_ms + 3_600_000, "rate_per_min": 0.2,
                "burst": 12.0, "reason": "volume", "reply": reply,
                "evidence": evidence, "source": {"topic": "connections", "partition": 0, "offset": i}, "model": "m",
                "config": "c", "v": 1,
            }  # fmt: skip
            await producer.send(place.prefix + DECISIONS.name, orjson.dumps(decision), network.encode())
        await producer.flush()
    finally:
        await producer.stop()


@contextmanager
def shown(place: Place, folder: Path, live: int) -> Iterator[Watch]:
    """A restarted worker whose page shows ``live`` more throttles in force."""
    asyncio.run(throttle(place, live))
    watch = Watch(free_port())
    environment = place.environment(f"bench-{time.time_ns()}", TIDEGATE_WORKER_HTTP=f"127.0.0.1:{watch.port}")
    with Worker(environment, folder) as worker:
        worker.wait_ready(cluster.PARTITIONS)
        deadline_s = time.monotonic() + WAIT_S
        while (found := orjson.loads(watch.ask("/v1/overview")))["active"] < live or not found["caught_up"]:
            if time.monotonic() > deadline_s:
                raise Broken(f"the page shows {found['active']:,} of {live:,} throttles")
            time.sleep(0.1)
        yield watch


def first_views(watch: Watch, times: int) -> list[float]:
    """Seconds of first views of a page."""
    took = []
    for _ in range(times):
        started_s = time.perf_counter()
        for path in FIRST_VIEW:
            watch.ask(path)
        took.append(time.perf_counter() - started_s)
        time.sleep(0.5)
    return took


def sizes(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/edge/page_cost.py", description="What metrics and page cost a worker."
    )
    parser.add_argument("--small", action="store_true", help="seconds: checks the answers only")
    parser.add_argument("--events", type=int, default=6_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn")
    parser.add_argument("--live", type=int, default=10_000, help="throttles in force for the first view")
    parser.add_argument("--views", type=int, default=10, help="first views that are timed")
    parser.add_argument("--browser-minutes", type=float, help="a browser has the page open for so long; 0: none  [10]")
    parser.add_argument("--screens", type=Path, help="folder for the page's pictures at the end, light and dark")
    parser.add_argument("--results", type=Path, default=KEPT, help="where the result is appended")
    chosen = parser.parse_args(arguments)
    if chosen.small:
        chosen.events, chosen.keys, chosen.rounds, chosen.live, chosen.results = 20_000, 2_000, 1, 200, None
        chosen.views = 2
    if chosen.browser_minutes is None:
        chosen.browser_minutes = 0.4 if chosen.small else 10.0
    return chosen


def figures_of(alone: list[EngineRun], watched: list[EngineRun], watch: Watch, views: list[float]) -> dict[str, Any]:
    """What is printed and kept."""
    rates = [statistics.median(one.events_per_s for one in runs) for runs in (alone, watched)]
    cpu = [statistics.median(one.cpu_s_per_million for one in runs) for runs in (alone, watched)]
    return {
        "events_per_s": {"alone": round(rates[0]), "watched": round(rates[1])},
        "lost": round(1 - rates[1] / rates[0], 4),
        "cpu_s_per_million": {"alone": round(cpu[0], 4), "watched": round(cpu[1], 4)},
        "ratio_by_round": [round(b.events_per_s / a.events_per_s, 4) for a, b in zip(alone, watched, strict=True)],
        "answers_ms": {
            path: {
                "p50": round(1000 * statistics.median(took), 1),
                "most": round(1000 * max(took), 1),
                "count": len(took),
            }
            for path, took in watch.took_s.items()
        },
        "first_view_s": {"p50": round(statistics.median(views), 3), "most": round(max(views), 3)},
    }


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything, on a broker of its own."""
    alone: list[EngineRun] = []
    watched: list[EngineRun] = []
    watch = Watch(free_port())
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, EmbeddedBroker(Path(name) / "broker") as broker:
        place, folder = Place(broker.bootstrap, "watching-"), Path(name)
        cluster.make_topics(place)
        cluster.fill(place, Workload(chosen.events, chosen.keys), "lz4")
        for number in range(chosen.rounds):
            order = [(alone, None), (watched, watch)]
            for runs, by in order if number % 2 == 0 else order[::-1]:
                runs.append(run(place, folder, by))
            rates = f"{alone[-1].events_per_s:,.0f} events/s alone, {watched[-1].events_per_s:,.0f} watched"
            print(f"{number + 1}: {rates}", file=sys.stderr)
        with shown(place, folder, chosen.live) as looked:
            views = first_views(looked, chosen.views)
            page = page_figures(place, folder, looked, chosen)
    wrong = [one.counts["events"] for one in (*alone, *watched) if one.counts["events"] != chosen.events]
    return {**figures_of(alone, watched, watch, views), **page, "answer": "wrong" if wrong else "right"}


def page_figures(place: Place, folder: Path, looked: Watch, chosen: argparse.Namespace) -> dict[str, Any]:
    """Of a browser before the page; nothing without one."""
    if not chosen.browser_minutes:
        return {}
    mail = page_memory.Mail(place, Workload(chosen.events, chosen.keys).senders)
    url = f"http://127.0.0.1:{looked.port}"
    found = page_memory.measure(mail, folder, url, chosen.browser_minutes, chosen.live)
    if chosen.screens is not None:
        shutil.copytree(folder / page_memory.SCREENS_FOLDER, chosen.screens, dirs_exist_ok=True)
    return {"page": found, "page_heap_growth": found["heap"]["growth"], "page_rss_growth": found["rss"]["growth"]}


def run_and_keep(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything measured, told where it falls short, and kept."""
    stamp, figures = machine.stamp(), measure(chosen)
    lost, first_s = figures["lost"], figures["first_view_s"]["most"]
    if lost > MOST_LOST or first_s > MOST_FIRST_S:
        print(f"falls short: lost {lost:.1%} (wanted {MOST_LOST:.0%}), first view {first_s:.2f} s", file=sys.stderr)
    grown = max(figures.get(name, 0.0) for name in ("page_heap_growth", "page_rss_growth"))
    if grown > page_memory.MOST_GROWTH:
        print(f"falls short: the page grew {grown:.2f} times (wanted {page_memory.MOST_GROWTH:g})", file=sys.stderr)
    if chosen.results is not None:
        keep({"machine": stamp, "figures": figures, "events": chosen.events, "keys": chosen.keys}, chosen.results)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    try:
        figures = run_and_keep(sizes(arguments))
    except (Broken, OperatorError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    print(json.dumps(figures))
    return 1 if figures["answer"] == "wrong" else 0


if __name__ == "__main__":
    sys.exit(main())
