"""Whether a page that stays open grows: a real browser shows a worker's page for minutes while mail arrives.

Known senders send at a rate that changes every few seconds, and every other second a newcomer bursts and is throttled. Every
twelve seconds the browser collects its garbage, and the rest is recorded: JavaScript's heap, the page's nodes, the resident
memory of the renderers. Growth relates the mean of the last minute to that of the second (in shorter runs, the last
quarter to the second one). The page must have shown changing rates, ever more decisions, and top senders; else the answer is
wrong (`WrongAnswer`).
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
import psutil
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.topic_space import TopicSpace, send_event
from tests.support.browsing import NoBrowser, console_messages, open_browser, set_colours, set_screen, wait_for_page
from topics.keys import key_of

EVERY_S, MINUTE_S = 12.0, 60.0
TICK_S, RATE_S, BURST_EVERY_S = 0.1, 7.0, 2.0
RATES = (200, 900, 500, 1_400)  # events per second, in turn
BURST = 5_000
LEAST_RATES = 3
MAX_GROWTH = 1.1
SCREENS_FOLDER = "screens"
SCREENS = {"desktop": (1280, 900), "phone": (360, 740)}


class Snapshot(NamedTuple):
    """The browser's memory, and figures that the page shows."""

    at_s: float  # since the page was open
    heap_bytes: int
    nodes: int
    rss_bytes: int
    rate: str
    active: int  # decisions
    top_senders: int


class Mail:
    """Sends mail of known ``senders`` and of newcomers from a thread, as long as the block of `going_on` lasts."""

    def __init__(self, space: TopicSpace, senders: npt.NDArray[np.uint64]) -> None:
        self._space, self._senders = space, senders
        self._producer = confluent_kafka.Producer({"bootstrap.servers": space.bootstrap, "linger.ms": 20})
        self._draw = random.Random(1)
        self._bursts = 0

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
            for _ in range(round(RATES[int(passed_s / RATE_S) % len(RATES)] * TICK_S)):
                self._send(int(self._senders[self._draw.randrange(len(self._senders))]), 1)
            if passed_s > self._bursts * BURST_EVERY_S:
                self._send(key_of(newcomer(self._bursts)), BURST)
                self._bursts += 1
            self._producer.poll(0)

    def _send(self, sender: int, messages: int) -> None:
        with contextlib.suppress(BufferError):  # the broker is slow: send less mail
            send_event(self._producer, self._space, sender, messages)


def newcomer(number: int) -> str:
    """Return an unknown sender; no two share a /16."""
    return f"{199 + number // 256}.{number % 256}.7.9"


def number_of(text: str) -> int:
    """Return a figure that the page shows, 0 without digits."""
    return int("".join(letter for letter in text if letter.isdigit()) or 0)


def renderer_bytes(driver: Chrome) -> int:
    """Return the resident bytes of the browser's renderers."""
    found = 0
    for process in psutil.Process(driver.service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "--type=renderer" in process.cmdline():
                found += process.memory_info().rss
    return found


def snapshot(driver: Chrome, at_s: float) -> Snapshot:
    """Return the state after a collection of garbage."""
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    heap = driver.execute_cdp_cmd("Runtime.getHeapUsage", {})
    nodes = driver.execute_cdp_cmd("Memory.getDOMCounters", {})["nodes"]
    rate, active = (driver.find_element(By.ID, name).text for name in ("rate", "active"))
    top = len(driver.find_elements(By.CSS_SELECTOR, "#top-senders .who"))
    return Snapshot(at_s, int(heap["usedSize"]), int(nodes), renderer_bytes(driver), rate, number_of(active), top)


def snapshots(driver: Chrome, seconds: float, every_s: float) -> list[Snapshot]:
    """Return the snapshots of so many seconds."""
    started_s, found = time.monotonic(), list[Snapshot]()
    while (passed_s := time.monotonic() - started_s) < seconds:
        found.append(snapshot(driver, passed_s))
        time.sleep(max(0.0, every_s * len(found) - (time.monotonic() - started_s)))
    return found


def growth(found: Sequence[Snapshot], name: str, span_s: float) -> tuple[float, float, float]:
    """Return the means of the second span and of the last one, and their ratio."""
    end_s = found[-1].at_s
    second = [getattr(each, name) for each in found if span_s <= each.at_s < 2 * span_s]
    last = [getattr(each, name) for each in found if each.at_s > end_s - span_s]
    if not second or not last:
        raise Broken(f"the browser was too slow: {len(found)} snapshots in {end_s:.0f} s")
    means = statistics.mean(second), statistics.mean(last)
    return *means, means[1] / means[0]


def check(found: Sequence[Snapshot], live: int, errors: Sequence[str]) -> None:
    """Raise `WrongAnswer` unless the page has shown the mail; ``errors`` are those of its console."""
    rates = {each.rate for each in found}
    if len(rates) < LEAST_RATES:
        raise WrongAnswer(f"the page showed the rates {rates}: mail came at {len(RATES)} in turn")
    if found[0].active < live or found[-1].active <= found[0].active:
        raise WrongAnswer(f"the page showed {found[0].active:,}, then {found[-1].active:,} of {live:,} decisions")
    if not found[-1].top_senders:
        raise WrongAnswer("the page showed no sender above its own maximum")
    if errors:
        raise WrongAnswer(f"the browser reports: {errors[0]}")


def photograph(driver: Chrome, folder: Path) -> None:
    """Save pictures of the page, light and dark, at the sizes of a desktop and a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SCREENS.items():
        set_screen(driver, *size)
        for scheme in ("light", "dark"):
            set_colours(driver, scheme)
            driver.save_screenshot(str(folder / f"{name}-{scheme}.png"))


def measure(mail: Mail, folder: Path, url: str, minutes: float, live: int) -> dict[str, Any]:
    """Open the page at ``url`` in a browser for so long; at least ``live`` decisions are active.

    Pictures go to ``folder``/screens at the end. Raises `Broken` without a browser.
    """
    seconds = minutes * MINUTE_S
    span_s = min(MINUTE_S, seconds / 4)
    try:
        with mail.going_on(), open_browser(folder / "browser") as driver:
            started_s = time.monotonic()
            driver.get(url)
            wait_for_page(driver, "home")
            first_s = time.monotonic() - started_s
            found = snapshots(driver, seconds, min(EVERY_S, span_s / 3))
            errors = console_messages(driver)
            photograph(driver, folder / SCREENS_FOLDER)
    except NoBrowser as error:
        raise Broken(f"{error}; or leave the browser out: --browser-minutes 0") from error
    check(found, live, errors)
    figures: dict[str, Any] = {"minutes": minutes, "looks": len(found), "browser_first_view_s": round(first_s, 3)}
    for what, name, scale in (("heap", "heap_bytes", 1e6), ("rss", "rss_bytes", 1e6), ("nodes", "nodes", 1.0)):
        second, last, ratio = growth(found, name, span_s)
        figures[what] = {"second": round(second / scale, 2), "last": round(last / scale, 2), "growth": round(ratio, 4)}
    return {**figures, "decisions": [found[0].active, found[-1].active], "rates": len({each.rate for each in found})}
