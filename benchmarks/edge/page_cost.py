"""The cost of a worker's metrics and page, and whether an open page grows (`make bench-watching`).

One embedded broker, a topic filled once; workers read all of it in turn: one without HTTP (`worker.http` empty), and one that
is scraped every second, fifteen times as often as by a usual Prometheus, while its page is open (an overview and the
overrides every two seconds). The loss is the ratio of the median rates. Then, on a worker that knows all senders, with ten
thousand active throttles: the time for all that the page's first view needs, and whether a browser that has the page open
for minutes grows (`page_growth`). Every run must have counted each event once.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.edge import page_growth
from benchmarks.harness import command, topic_space
from benchmarks.harness.command import Report, log_progress, new_parser, parse
from benchmarks.harness.errors import Broken
from benchmarks.harness.ports import free_port
from benchmarks.harness.results import FOLDER, Target
from benchmarks.harness.topic_space import TopicSpace, publish_throttles
from benchmarks.harness.traffic import evening
from benchmarks.harness.worker import EngineRun, Worker, figures_of
from engine.broker import EmbeddedBroker

SCRAPE_S, PAGE_S = 1.0, 2.0
FIRST_VIEW = ("/", "/page.css", "/page.js", "/v1/overview", "/v1/overrides")
MAX_LOSS, MAX_FIRST_S = 0.02, 1.0
WAIT_S = 60.0
LASTS_MS = 3_600_000
SMALL = {"events": 20_000, "keys": 2_000, "rounds": 1, "live": 200, "views": 2, "browser_minutes": 0.4}


@dataclass
class Visitor:
    """Requests a worker's metrics and page from threads, and times the replies."""

    port: int
    took_s: dict[str, list[float]] = field(default_factory=dict)  # by path

    def get(self, path: str) -> bytes:
        """Return the body of a reply; `Broken` if its status isn't 200."""
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

    def _repeat(self, paths: tuple[str, ...], every_s: float, ending: threading.Event) -> None:
        while not ending.wait(every_s):
            for path in paths:
                with contextlib.suppress(OSError):  # the worker doesn't listen yet, or has stopped
                    self.get(path)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Request everything repeatedly as long as the block lasts."""
        ending = threading.Event()
        work = [(("/metrics",), SCRAPE_S), (("/v1/overview", "/v1/overrides"), PAGE_S)]
        threads = [threading.Thread(target=self._repeat, args=(*each, ending), daemon=True) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join()


def run(space: TopicSpace, folder: Path, visitor: Visitor | None) -> EngineRun:
    """Run a fresh worker over the whole topic, with a visitor or without."""
    topic_space.empty_outputs(space)
    last = topic_space.last_offsets(space)
    listen = f"127.0.0.1:{visitor.port}" if visitor else ""
    environment = space.environment(f"bench-{time.time_ns()}", TIDEGATE_WORKER_HTTP=listen)
    with Worker(environment, folder) as worker, visitor.going_on() if visitor else nullcontext():
        return figures_of(worker.wait_durable(last), last, worker.started_s)


@contextmanager
def shown(space: TopicSpace, folder: Path, live: int) -> Iterator[Visitor]:
    """Restart the worker and wait until its page shows ``live`` throttles more."""
    publish_throttles(space, (f"198.{18 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32" for i in range(live)), LASTS_MS)
    visitor = Visitor(free_port())
    environment = space.environment(f"bench-{time.time_ns()}", TIDEGATE_WORKER_HTTP=f"127.0.0.1:{visitor.port}")
    with Worker(environment, folder) as worker:
        worker.wait_ready(space.partitions)
        deadline_s = time.monotonic() + WAIT_S
        while (found := orjson.loads(visitor.get("/v1/overview")))["active"] < live or not found["caught_up"]:
            if time.monotonic() > deadline_s:
                raise Broken(f"the page shows {found['active']:,} of {live:,} throttles")
            time.sleep(0.1)
        yield visitor


def first_views_s(visitor: Visitor, times: int) -> list[float]:
    """Return the seconds of first views of a page."""
    found = []
    for _ in range(times):
        started_s = time.perf_counter()
        for path in FIRST_VIEW:
            visitor.get(path)
        found.append(time.perf_counter() - started_s)
        time.sleep(0.5)
    return found


def figures(alone: list[EngineRun], visited: list[EngineRun], visitor: Visitor, views_s: list[float]) -> dict[str, Any]:
    """Return the figures of runs and first views."""
    rates = [statistics.median(each.events_per_s for each in runs) for runs in (alone, visited)]
    costs = [statistics.median(each.cpu_s_per_million for each in runs) for runs in (alone, visited)]
    replies = {
        path: {
            "p50": round(1000 * statistics.median(took_s), 1),
            "most": round(1000 * max(took_s), 1),
            "count": len(took_s),
        }
        for path, took_s in visitor.took_s.items()
    }
    return {
        "events_per_s": {"alone": round(rates[0]), "watched": round(rates[1])},
        "lost": round(1 - rates[1] / rates[0], 4),
        "cpu_s_per_million": {"alone": round(costs[0], 4), "watched": round(costs[1], 4)},
        "ratio_by_round": [round(b.events_per_s / a.events_per_s, 4) for a, b in zip(alone, visited, strict=True)],
        "answers_ms": replies,
        "first_view_s": {"p50": round(statistics.median(views_s), 3), "most": round(max(views_s), 3)},
    }


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure on a broker of its own."""
    with EmbeddedBroker(folder / "broker") as broker:
        return _measure(TopicSpace(broker.bootstrap, "page-"), given, folder)


def _measure(space: TopicSpace, given: argparse.Namespace, folder: Path) -> Report:
    alone: list[EngineRun] = []
    visited: list[EngineRun] = []
    visitor = Visitor(free_port())
    traffic = evening(given.events, given.keys)
    topic_space.make_topics(space)
    topic_space.fill(space, traffic)
    for number in range(given.rounds):
        order = [(alone, None), (visited, visitor)]
        for runs, by in order if number % 2 == 0 else order[::-1]:
            runs.append(run(space, folder, by))
        log_progress(f"{number + 1}: {alone[-1].events_per_s:,.0f}/s alone, {visited[-1].events_per_s:,.0f}/s visited")
    with shown(space, folder, given.live) as page:
        views_s, grown = first_views_s(page, given.views), dict[str, Any]()
        if given.browser_minutes:
            mail, url = page_growth.Mail(space, traffic.senders), f"http://127.0.0.1:{page.port}"
            found = page_growth.measure(mail, folder, url, given.browser_minutes, given.live)
            grown = {"page": found} | {f"page_{name}_growth": found[name]["growth"] for name in ("heap", "rss")}
    if given.browser_minutes and given.screens is not None:
        shutil.copytree(folder / page_growth.SCREENS_FOLDER, given.screens, dirs_exist_ok=True)
    counts = [each.counts["events"] for each in (*alone, *visited)]
    wrong = [f"{count:,} events instead of {given.events:,}" for count in counts if count != given.events]
    line = {**figures(alone, visited, visitor, views_s), **grown, "answer": "wrong" if wrong else "right"}
    targets = [
        Target("share of the rate lost", line["lost"], MAX_LOSS),
        Target("first view in s", line["first_view_s"]["most"], MAX_FIRST_S),
        *(Target(name, line[name], page_growth.MAX_GROWTH) for name in grown if name != "page"),
    ]
    return Report(line, targets=targets, wrong=wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "watching.ndjson")
    parser.add_argument("--events", type=int, default=6_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000, help="senders")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn")
    parser.add_argument("--live", type=int, default=10_000, help="active throttles for the first view")
    parser.add_argument("--views", type=int, default=10, help="first views that are timed")
    parser.add_argument(
        "--browser-minutes", type=float, default=10.0, help="a browser has the page open; 0: no browser"
    )
    parser.add_argument("--screens", type=Path, help="folder for pictures of the page at the end, light and dark")
    return command.run(measure, parse(parser, SMALL, arguments))


if __name__ == "__main__":
    sys.exit(main())
