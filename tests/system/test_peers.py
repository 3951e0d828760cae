"""Two workers share a site: each page shows the whole site, and names a worker that doesn't respond."""

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

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.browsing import browser, console_messages, set_colours, set_screen, wait_for_page
from tests.support.worker_http import WorkerHttp
from tests.support.workers import WorkerProcess, environment, tidegate, until
from topics.partitioner import partition_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

EVENTS = 3_000
BURSTS = [
    next(ip for ip in (f"198.51.100.{n}" for n in range(256)) if partition_of(ip.encode(), 2) == number)
    for number in range(2)
]
RESPONSE_S = 5.0  # more than the time-out of a page, less than that of a group member


def events() -> bytes:
    """Return a newcomer's burst on each partition."""
    now_ms = int(time.time() * 1000)
    sent = ({"ts": now_ms - 400_000 + i, "ip": ip, "messages": 1} for i in range(EVENTS) for ip in BURSTS)
    return b"\n".join(map(orjson.dumps, sent)) + b"\n"


class Owner(NamedTuple):
    """One of the two workers, with its page and its partition."""

    process: WorkerProcess
    http: WorkerHttp
    partition: int


def owned(process: WorkerProcess) -> list[str]:
    """Return the partitions that a worker owns."""
    return list(process.status.get("partitions", {}))


@pytest.fixture(scope="module")
def pair(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Owner]]:
    """Run the two workers, in the order of their partitions."""
    env = environment(broker.bootstrap, "fleet-", 2, WORKER_SESSION_TIMEOUT_S=30)
    assert tidegate("topics", "--create", env=env).returncode == 0
    assert tidegate("produce", "-", env=env, stdin=events()).returncode == 0
    with ExitStack() as stack:
        started = []
        for name in ("one", "two"):
            port, folder = free_port(), tmp_path_factory.mktemp(name)
            process = stack.enter_context(WorkerProcess({**env, "TIDEGATE_WORKER_HTTP": f"127.0.0.1:{port}"}, folder))
            started.append((process, WorkerHttp(port)))
        until(lambda: all(len(owned(process)) == 1 for process, _ in started), "a partition for each")
        until(lambda: sum(process.status["events"] for process, _ in started) == 2 * EVENTS, "all events counted")
        owners = [Owner(process, http, int(owned(process)[0])) for process, http in started]
        yield sorted(owners, key=lambda owner: owner.partition)
        assert [owner.process.stop() for owner in owners] == [0, 0]


def timeless(sender: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a sender that don't depend on the time."""
    return {name: sender[name] for name in ("network", "partition", "worker", "throttled", "reason", "decisions")}


def test_each_page_shows_a_sender_as_its_owner_does(pair: list[Owner]) -> None:
    for owner, ip in zip(pair, BURSTS, strict=True):
        until(lambda o=owner, i=ip: bool(o.http.get_json(f"/v1/senders/{i}")["decisions"]), "a decision in the log")  # type: ignore[misc]
        senders = [each.http.get_json(f"/v1/senders/{ip}") for each in pair]
        assert timeless(senders[0]) == timeless(senders[1])
        assert (senders[0]["partition"], senders[0]["throttled"]) == (owner.partition, True)
        assert senders[0]["worker"].endswith(f" {owner.process.process.pid}")
        for each in pair:
            status, svg = each.http.get(f"/v1/senders/{ip}/plot.svg")
            assert status == 200
            assert f"{EVENTS:,} messages".encode() in svg


def test_invalid_request_gets_the_same_error_from_each_page(pair: list[Owner]) -> None:
    quiet = next(ip for ip in (f"203.0.113.{n}" for n in range(256)) if partition_of(ip.encode(), 2) == 1)
    replies = [each.http.get(f"/v1/senders/{quiet}/plot.svg") for each in pair]
    assert [status for status, _ in replies] == [400, 400]
    assert all(b"has sent nothing in the last 24.0 hours" in body for _, body in replies)


def test_overview_shows_the_partitions_of_both(pair: list[Owner]) -> None:
    for one, other in (pair, pair[::-1]):
        until(lambda o=one: not o.http.get_json("/v1/overview")["missing"], "a part of the other")  # type: ignore[misc]
        overview = one.http.get_json("/v1/overview")
        (part,) = overview["others"]
        assert set(overview["status"]["partitions"]) == {str(one.partition)}
        assert set(part["status"]["partitions"]) == {str(other.partition)}
        assert part["worker"].endswith(f" {other.process.process.pid}")
        assert {top["address"] for top in overview["top_senders"] + part["top_senders"]} == set(BURSTS)


def test_page_shows_the_whole_site_or_names_what_is_missing(pair: list[Owner], tmp_path: Path) -> None:
    one, other = pair
    with browser(tmp_path) as driver:
        driver.get(one.http.url)
        wait_for_page(driver, "home")
        until(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#partitions tr")) == 2, "a row for each partition")
        assert driver.find_element(By.ID, "pill").text == "healthy"
        assert "2 of 2 partitions, of 2 workers" in driver.find_element(By.ID, "facts").text
        assert len(driver.find_elements(By.CSS_SELECTOR, "#top-senders .who")) == 2
        driver.get(f"{one.http.url}/#/sender/{BURSTS[other.partition]}")
        wait_for_page(driver, BURSTS[other.partition])
        assert driver.find_element(By.ID, "verdict").text.startswith("Throttled until")
        assert f"partition {other.partition}, worker" in driver.find_element(By.ID, "past").text
        assert console_messages(driver) == []
        driver.get(f"{one.http.url}/#/")
        os.kill(other.process.process.pid, signal.SIGSTOP)
        try:
            wait_for_page(driver, "home")
            until(
                lambda: "not shown: partition" in driver.find_element(By.ID, "missing").text,
                "a sentence on the missing partition",
            )
            assert driver.find_element(By.ID, "pill").text == "healthy, as far as shown"
            for width in (1280, 360):
                set_screen(driver, width, 900)
                for scheme in ("light", "dark"):
                    set_colours(driver, scheme)
                    driver.save_screenshot(str(tmp_path / f"missing-{width}-{scheme}.png"))
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        finally:
            os.kill(other.process.process.pid, signal.SIGCONT)


def test_unresponsive_owner_is_named_within_seconds(pair: list[Owner]) -> None:
    one, other = pair
    ip, pid = BURSTS[other.partition], other.process.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        started_s = time.monotonic()
        status, body = one.http.get(f"/v1/senders/{ip}")
        took_s = time.monotonic() - started_s
        started_s = time.monotonic()
        one.http.get_json("/v1/overview")
        assert time.monotonic() - started_s < RESPONSE_S
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (status, took_s < RESPONSE_S) == (400, True)
    message = orjson.loads(body)["error"]
    assert message.startswith(f"{ip}/32 belongs to partition {other.partition}, which worker ")
    assert f" {pid} owns; its page at {other.http.url} didn't reply within 2 s: open it there" in message
    assert message.endswith(f"; `tidegate explain {ip}` works anywhere")


def test_static_member_restarts_with_another_page(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    env = environment(broker.bootstrap, prefix, 1, WORKER_INSTANCE_ID="a", WORKER_SESSION_TIMEOUT_S=30)
    assert tidegate("topics", "--create", env=env).returncode == 0
    for count in (1, 2):
        port = free_port()
        with WorkerProcess({**env, "TIDEGATE_WORKER_HTTP": f"127.0.0.1:{port}"}, tmp_path) as worker:
            assert tidegate("produce", "-", env=env, stdin=events()).returncode == 0
            worker.wait_for(1, 2 * EVENTS * count)
            assert WorkerHttp(port).get_json(f"/v1/senders/{BURSTS[0]}")["worker"].endswith(" a")
            worker.kill()
