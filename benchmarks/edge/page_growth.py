"""Does a page that stays open grow? A real browser has a worker's page before it for minutes, while mail comes and goes.

Known senders send at a rate that changes every few seconds, and every other second a newcomer breaks out and is throttled.
Every twelve seconds the browser collects its garbage, and what is left is noted: JavaScript's heap, the page's nodes, the
resident memory of the renderers. Growth is the mean of the last minute by that of the second (of shorter runs, of the last
and the second quarter). The page must have shown it all, changing rates, ever more decisions, movers; else the answer is
wrong (`Broken`).
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka
import numpy as np
import numpy.typing as npt
import orjson
import psutil
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from benchmarks.harness.cluster import PARTITIONS, Place
from benchmarks.harness.errors import Broken
from tests.support.browsing import NoBrowser, console_messages, open_browser, set_colours, set_screen, wait_for_page
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

EVERY_S, MINUTE_S = 12.0, 60.0
TICK_S, TURN_S, BREAKS_OUT_S = 0.1, 7.0, 2.0
RATES = (200, 900, 500, 1_400)  # events a second, one after the other
BURST = 5_000
LEAST_RATES = 3
MOST_GROWTH = 1.1
SCREENS_FOLDER = "screens"
SCREENS = {"desktop": (1280, 900), "phone": (360, 740)}


class Look(NamedTuple):
    """What the browser held and the page showed. ``at_s``: since the page was open; ``live``: decisions in force."""

    at_s: float
    heap_octets: int
    nodes: int
    rss_octets: int
    rate: str
    live: int
    movers: int


class Mail:
    """Sends mail of ``senders`` (keys) and of newcomers to a place's topic from a thread, for as long as the block lasts."""

    def __init__(self, place: Place, senders: npt.NDArray[np.uint64]) -> None:
        self._topic, self._senders = place.connections, senders
        self._producer = confluent_kafka.Producer({"bootstrap.servers": place.bootstrap, "linger.ms": 20})
        self._draw = random.Random(1)
        self._broken_out = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send meanwhile."""
        ending = threading.Event()
        thread = threading.Thread(target=self._run, args=(ending,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
            self._producer.flush(30)

    def _run(self, ending: threading.Event) -> None:
        started_s = time.monotonic()
        while not ending.wait(TICK_S):
            passed_s = time.monotonic() - started_s
            for _ in range(round(RATES[int(passed_s / TURN_S) % len(RATES)] * TICK_S)):
                self._send(int(self._senders[self._draw.randrange(len(self._senders))]), 1)
            if passed_s > self._broken_out * BREAKS_OUT_S:
                self._send(key_of(newcomer(self._broken_out)), BURST)
                self._broken_out += 1
            self._producer.poll(0)

    def _send(self, sender: int, messages: int) -> None:
        text, at_ms = key_text(sender), int(time.time() * 1000)
        key, event = text.encode(), {"ts": at_ms, "ip": text.removesuffix("/64"), "messages": messages}
        with contextlib.suppress(BufferError):  # the broker is slow: less mail, then
            place = partition_of(key, PARTITIONS)
            self._producer.produce(self._topic, orjson.dumps(event), key=key, partition=place, timestamp=at_ms)


def newcomer(number: int) -> str:
    """One that nobody knows; no two share a /16."""
    return f"{199 + number // 256}.{number % 256}.7.9"


def number(text: str) -> int:
    """A figure as the page writes it."""
    digits = "".join(letter for letter in text if letter.isdigit())
    return int(digits) if digits else 0


def renderers(driver: Chrome) -> int:
    """Resident octets of the browser's renderers."""
    found = 0
    for process in psutil.Process(driver.service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "--type=renderer" in process.cmdline():
                found += process.memory_info().rss
    return found


def look(driver: Chrome, at_s: float) -> Look:
    """One, behind a collection of garbage."""
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    heap = driver.execute_cdp_cmd("Runtime.getHeapUsage", {})
    nodes = driver.execute_cdp_cmd("Memory.getDOMCounters", {})["nodes"]
    rate, live = (driver.find_element(By.ID, name).text for name in ("rate", "active"))
    movers = len(driver.find_elements(By.CSS_SELECTOR, "#top-senders .who"))
    return Look(at_s, int(heap["usedSize"]), int(nodes), renderers(driver), rate, number(live), movers)


def looks(driver: Chrome, seconds: float, every_s: float) -> list[Look]:
    """Those of so many seconds."""
    started_s, found = time.monotonic(), list[Look]()
    while (passed_s := time.monotonic() - started_s) < seconds:
        found.append(look(driver, passed_s))
        time.sleep(max(0.0, every_s * len(found) - (time.monotonic() - started_s)))
    return found


def growth(found: Sequence[Look], name: str, span_s: float) -> tuple[float, float, float]:
    """Means of the second span and the last one, and the last by the second."""
    end_s = found[-1].at_s
    second = [getattr(one, name) for one in found if span_s <= one.at_s < 2 * span_s]
    last = [getattr(one, name) for one in found if one.at_s > end_s - span_s]
    if not second or not last:
        raise Broken(f"the browser was too slow: {len(found)} looks in {end_s:.0f} s")
    means = statistics.mean(second), statistics.mean(last)
    return *means, means[1] / means[0]


def check(found: Sequence[Look], live: int, said: Sequence[str]) -> None:
    """`Broken` unless the page has shown what there was."""
    rates = {one.rate for one in found}
    if len(rates) < LEAST_RATES:
        raise Broken(f"the page showed the rates {rates}: mail came at {len(RATES)} by turns")
    if found[0].live < live or found[-1].live <= found[0].live:
        raise Broken(f"the page showed {found[0].live:,} and {found[-1].live:,} decisions, of {live:,} and ever more")
    if not found[-1].movers:
        raise Broken("the page showed nobody above its own most")
    if said:
        raise Broken(f"the browser complains: {said[0]}")


def photograph(driver: Chrome, folder: Path) -> None:
    """The page as it is, light and dark, on a desk and on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SCREENS.items():
        set_screen(driver, *size)
        for scheme in ("light", "dark"):
            set_colours(driver, scheme)
            driver.save_screenshot(str(folder / f"{name}-{scheme}.png"))


def measure(mail: Mail, folder: Path, url: str, minutes: float, live: int) -> dict[str, Any]:
    """A browser before the page at ``url`` for so long; ``live``: decisions in force at least. Pictures go to
    ``folder``/screens at the end. `Broken` without a browser, or if it showed something else."""
    seconds = minutes * MINUTE_S
    span_s = min(MINUTE_S, seconds / 4)
    try:
        with mail.going_on(), open_browser(folder / "browser") as driver:
            started_s = time.monotonic()
            driver.get(url)
            wait_for_page(driver, "home")
            first_s = time.monotonic() - started_s
            found = looks(driver, seconds, min(EVERY_S, span_s / 3))
            said = console_messages(driver)
            photograph(driver, folder / SCREENS_FOLDER)
    except NoBrowser as error:
        raise Broken(f"{error}; or leave the browser out: --browser-minutes 0") from error
    check(found, live, said)
    figures: dict[str, Any] = {"minutes": minutes, "looks": len(found), "browser_first_view_s": round(first_s, 3)}
    for what, name, scale in (("heap", "heap_octets", 1e6), ("rss", "rss_octets", 1e6), ("nodes", "nodes", 1.0)):
        second, last, ratio = growth(found, name, span_s)
        figures[what] = {"second": round(second / scale, 2), "last": round(last / scale, 2), "growth": round(ratio, 4)}
    return {**figures, "decisions": [found[0].live, found[-1].live], "rates": len({one.rate for one in found})}
