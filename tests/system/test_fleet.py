"""Two workers share a site: whichever page is asked, the owner of a sender's partition answers, or it is said who that is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from selenium.webdriver.common.by import By

from benchmarks.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.browsing import browser, colours, complaints, screen, settle
from tests.support.workers import WorkerProcess, environment, tidegate, until
from tests.system.test_web import Asked
from topics.partitioner import partition_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

EVENTS = 3_000
BURSTS = [
    next(ip for ip in (f"198.51.100.{n}" for n in range(256)) if partition_of(ip.encode(), 2) == number)
    for number in range(2)
]
HEARD_S = 5.0  # more than a page is waited for, less than a group waits for a worker


def events() -> bytes:
    """A newcomer's burst on each partition."""
    now_ms = int(time.time() * 1000)
    sent = ({"ts": now_ms - 400_000 + i, "ip": ip, "messages": 1} for i in range(EVENTS) for ip in BURSTS)
    return b"\n".join(map(orjson.dumps, sent)) + b"\n"


class One(NamedTuple):
    """A worker of the two, its page, and the partition that it has."""

    process: WorkerProcess
    asked: Asked
    partition: int


def owned(process: WorkerProcess) -> list[str]:
    """The partitions that a worker has."""
    return list(process.status.get("partitions", {}))


@pytest.fixture(scope="module")
def pair(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[One]]:
    """The two, in the order of their partitions, each with a page and one partition."""
    env = environment(broker.bootstrap, "fleet-", 2, WORKER_SESSION_TIMEOUT_S=30)
    assert tidegate("topics", "--create", env=env).returncode == 0
    assert tidegate("produce", "-", env=env, stdin=events()).returncode == 0
    with ExitStack() as stack:
        started = []
        for name in ("one", "two"):
            port, folder = free_port(), tmp_path_factory.mktemp(name)
            process = stack.enter_context(WorkerProcess({**env, "TIDEGATE_WORKER_HTTP": f"127.0.0.1:{port}"}, folder))
            started.append((process, Asked(port)))
        until(lambda: all(len(owned(process)) == 1 for process, _ in started), "a partition for each")
        until(lambda: sum(process.status["events"] for process, _ in started) == 2 * EVENTS, "all events counted")
        found = [One(process, asked, int(owned(process)[0])) for process, asked in started]
        yield sorted(found, key=lambda one: one.partition)
        assert [one.process.stop() for one in found] == [0, 0]


def same(told: dict[str, Any]) -> dict[str, Any]:
    """Of an answer what doesn't go with the time."""
    return {name: told[name] for name in ("network", "partition", "worker", "throttled", "reason", "decisions")}


def test_whichever_page_is_asked_the_owner_of_the_partition_answers(pair: list[One]) -> None:
    for owner, ip in zip(pair, BURSTS, strict=True):
        until(lambda o=owner, i=ip: bool(o.asked.json(f"/v1/senders/{i}")["decisions"]), "a decision on the board")  # type: ignore[misc]
        told = [one.asked.json(f"/v1/senders/{ip}") for one in pair]
        assert same(told[0]) == same(told[1])
        assert (told[0]["partition"], told[0]["throttled"]) == (owner.partition, True)
        assert told[0]["worker"].endswith(f" {owner.process.process.pid}")
        for one in pair:
            status, svg = one.asked.get(f"/v1/senders/{ip}/plot.svg")
            assert status == 200
            assert f"{EVENTS:,} messages".encode() in svg


def test_a_mistake_is_answered_the_same_wherever_it_is_made(pair: list[One]) -> None:
    quiet = next(ip for ip in (f"203.0.113.{n}" for n in range(256)) if partition_of(ip.encode(), 2) == 1)
    told = [one.asked.get(f"/v1/senders/{quiet}/plot.svg") for one in pair]
    assert [status for status, _ in told] == [400, 400]
    assert all(b"has sent nothing in the 24.0 hours" in body for _, body in told)


def test_an_overview_shows_the_partitions_of_both(pair: list[One]) -> None:
    for one, other in (pair, pair[::-1]):
        until(lambda o=one: not o.asked.json("/v1/overview")["missing"], "a part of the other")  # type: ignore[misc]
        found = one.asked.json("/v1/overview")
        (part,) = found["others"]
        assert set(found["status"]["partitions"]) == {str(one.partition)}
        assert set(part["status"]["partitions"]) == {str(other.partition)}
        assert part["worker"].endswith(f" {other.process.process.pid}")
        assert {mover["address"] for mover in found["movers"] + part["movers"]} == set(BURSTS)


def test_a_reader_sees_all_of_the_site(pair: list[One], tmp_path: Path) -> None:
    one, other = pair
    with browser(tmp_path) as driver:
        driver.get(one.asked.url)
        settle(driver, "home")
        until(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#partitions tr")) == 2, "a row for each partition")
        assert driver.find_element(By.ID, "pill").text == "well"
        assert "2 of 2 partitions, of 2 workers" in driver.find_element(By.ID, "facts").text
        assert len(driver.find_elements(By.CSS_SELECTOR, "#movers .who")) == 2
        driver.get(f"{one.asked.url}/#/sender/{BURSTS[other.partition]}")
        settle(driver, BURSTS[other.partition])
        assert driver.find_element(By.ID, "verdict").text.startswith("Throttled until")
        assert f"partition {other.partition}, worker" in driver.find_element(By.ID, "past").text
        assert complaints(driver) == []
        driver.get(f"{one.asked.url}/#/")
        os.kill(other.process.process.pid, signal.SIGSTOP)
        try:
            settle(driver, "home")
            until(
                lambda: "not shown: partition" in driver.find_element(By.ID, "missing").text,
                "a word on what is missing",
            )
            assert driver.find_element(By.ID, "pill").text == "well, as far as shown"
            for width in (1280, 360):
                screen(driver, width, 900)
                for scheme in ("light", "dark"):
                    colours(driver, scheme)
                    driver.save_screenshot(str(tmp_path / f"missing-{width}-{scheme}.png"))
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        finally:
            os.kill(other.process.process.pid, signal.SIGCONT)


def test_an_owner_that_does_not_answer_is_named_within_seconds(pair: list[One]) -> None:
    one, other = pair
    ip, pid = BURSTS[other.partition], other.process.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        started_s = time.monotonic()
        status, body = one.asked.get(f"/v1/senders/{ip}")
        took_s = time.monotonic() - started_s
        started_s = time.monotonic()
        one.asked.json("/v1/overview")
        assert time.monotonic() - started_s < HEARD_S
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (status, took_s < HEARD_S) == (400, True)
    said = orjson.loads(body)["error"]
    assert said.startswith(f"{ip}/32 belongs to partition {other.partition}, which worker ")
    assert f" {pid} has; its page at {other.asked.url} hasn't answered within 2 s: look there" in said
    assert said.endswith(f"; `tidegate explain {ip}` answers anywhere")


def test_a_static_member_that_restarts_with_another_page_works_on(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    env = environment(broker.bootstrap, prefix, 1, WORKER_INSTANCE_ID="a", WORKER_SESSION_TIMEOUT_S=30)
    assert tidegate("topics", "--create", env=env).returncode == 0
    for count in (1, 2):
        port = free_port()
        with WorkerProcess({**env, "TIDEGATE_WORKER_HTTP": f"127.0.0.1:{port}"}, tmp_path) as worker:
            assert tidegate("produce", "-", env=env, stdin=events()).returncode == 0
            worker.wait_for(1, 2 * EVENTS * count)
            assert Asked(port).json(f"/v1/senders/{BURSTS[0]}")["worker"].endswith(" a")
            worker.kill()
