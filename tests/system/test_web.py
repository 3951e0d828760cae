"""The worker's HTTP beside a real Kafka: metrics, status and health; a taken place costs nothing but the page."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.ports import free_port
from engine.broker import EmbeddedBroker
from engine.worker.metrics import METRICS
from tests.support.browsing import browser, colours, complaints, screen, settle
from tests.support.workers import WAIT_S, WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

EVENTS = 4_000
BURST_IP = "198.51.100.7"
TOKEN = "sesame-sesame-sesame"


def lines(now_ms: int) -> bytes:
    """Some senders' ordinary hour, and a newcomer's burst."""
    usual = [
        {"ts": now_ms - 3_000_000 + 600 * i, "ip": f"192.0.2.{i % 200}", "messages": 1, "recipients": 1}
        for i in range(EVENTS)
    ]
    burst = [{"ts": now_ms - 400_000 + i, "ip": BURST_IP, "messages": 1, "recipients": 1} for i in range(EVENTS)]
    return b"\n".join(orjson.dumps(event) for event in [*usual, *burst]) + b"\n"


class Asked:
    """A worker's HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        """The body of a good answer."""
        status, body = self.get(path)
        assert status == 200, body
        return orjson.loads(body)


@pytest.fixture(scope="module")
def site(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asked, dict[str, str]]]:
    """A worker that has read the events, and the environment of its site."""
    port, folder = free_port(), tmp_path_factory.mktemp("web")
    env = environment(broker.bootstrap, "web-", 2, WORKER_HTTP=f"127.0.0.1:{port}", WORKER_HTTP_TOKEN=TOKEN)
    assert tidegate("topics", "--create", env=env).returncode == 0
    sent = tidegate("produce", "-", env=env, stdin=lines(int(time.time() * 1000)))
    assert sent.returncode == 0, sent.stderr.decode()
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(2, 2 * EVENTS)
        yield Asked(port), env
        assert worker.stop() == 0


def test_metrics_are_those_of_what_was_read(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    status, body = asked.get("/metrics")
    assert status == 200
    found = {line.split(" ")[0]: float(line.split(" ")[1]) for line in body.decode().splitlines() if line[0] != "#"}
    counted = sum(value for name, value in found.items() if name.startswith("tidegate_events_total"))
    assert counted == 2 * EVENTS
    assert sum(value for name, value in found.items() if name.startswith("tidegate_consumer_lag_events")) == 0
    assert sum(value for name, value in found.items() if name.startswith("tidegate_throttles_total")) > 0
    shown = {name.partition("{")[0].removesuffix("_bucket") for name in found}
    assert {metric.exposed for metric in METRICS} - shown == {"tidegate_standby_keys", "tidegate_notifications_total"}


def test_a_worker_that_is_well_says_so(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    assert asked.json("/health") == {"well": True, "complaints": []}
    status = asked.json("/v1/status")
    assert (status["events"], set(status["partitions"])) == (2 * EVENTS, {"0", "1"})
    assert all(found["lag"] == 0 for found in status["partitions"].values())


def test_a_taken_place_costs_a_worker_its_page_alone(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(broker.bootstrap, prefix, 1, WORKER_HTTP=f"127.0.0.1:{port}")
        assert tidegate("topics", "--create", env=env).returncode == 0
        with WorkerProcess(env, tmp_path) as worker:
            worker.wait_for(1, 0)
            assert worker.stop() == 0
    assert f"no page, status or metrics at 127.0.0.1:{port}" in (tmp_path / "worker.log").read_text()


def test_status_and_top_ask_it(site: tuple[Asked, dict[str, str]]) -> None:
    asked, env = site
    told = tidegate("status", "--json", env=env)
    assert told.returncode == 0, told.stderr.decode()
    assert orjson.loads(told.stdout)["events"] == 2 * EVENTS
    shown = tidegate("top", "--once", "--url", asked.url, env=env)
    assert shown.returncode == 0, shown.stderr.decode()
    assert b"senders" in shown.stdout


def test_the_page_asks_for_nothing_from_elsewhere(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    with urllib.request.urlopen(asked.url, timeout=WAIT_S) as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
        text = response.read().decode()
    for name in ("/page.css", "/page.js"):
        text += asked.get(name)[1].decode()
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_decisions_are_told_with_their_reason_in_words(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    until(lambda: bool(asked.json("/v1/overview")["caught_up"]), "a board that has read everything")
    found = asked.json("/v1/overview")
    (burst,) = [one for one in found["decisions"] if one["network"] == f"{BURST_IP}/32"]
    assert burst["reason"] == "probation"
    assert "messages in" in burst["words"]
    assert found["live"] == len(found["decisions"]) > 0
    assert asked.json(f"/v1/decisions?search={BURST_IP}") == [burst]
    assert asked.json("/v1/decisions?search=198.51.100.8") == []
    assert asked.json("/v1/movers")[0]["address"] == BURST_IP
    assert asked.json("/v1/overrides") == {"overrides": [], "history": [], "orders": True}


def test_a_sender_is_explained_as_the_command_explains_it(site: tuple[Asked, dict[str, str]]) -> None:
    asked, env = site
    page = asked.json(f"/v1/senders/{BURST_IP}")
    told = tidegate("explain", BURST_IP, "--json", env=env)
    assert told.returncode == 0, told.stderr.decode()
    command = orjson.loads(told.stdout)
    same = ("network", "throttled", "past", "allowed", "until", "reason", "decisions", "config")
    assert {name: page[name] for name in same} == {name: command[name] for name in same}
    assert page["release"].startswith("ends by itself at")
    assert len(page["told"]) == len(page["decisions"])


def test_a_senders_picture_shows_its_day(site: tuple[Asked, dict[str, str]]) -> None:
    asked, _ = site
    status, svg = asked.get(f"/v1/senders/{BURST_IP}/plot.svg")
    assert status == 200
    assert f"{EVENTS:,} messages, 1 throttled spell".encode() in svg


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/senders/nobody", "give an IPv4 or IPv6 address"),
        ("/v1/senders/203.0.113.99/plot.svg", "203.0.113.99/32 has sent nothing in the 24.0 hours"),
        ("/v1/decisions?limit=all", "limit = 'all': give a whole number"),
    ],
)
def test_a_mistake_is_answered_with_what_to_give(site: tuple[Asked, dict[str, str]], path: str, said: str) -> None:
    asked, _ = site
    status, body = asked.get(path)
    assert status == 400
    assert said in orjson.loads(body)["error"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_a_reader_finds_a_sender_and_sees_its_picture(
    site: tuple[Asked, dict[str, str]], driver: Chrome, tmp_path: Path
) -> None:
    asked, _ = site
    driver.get(asked.url)
    settle(driver, "home")
    assert driver.find_element(By.CSS_SELECTOR, "#decisions .who").text == BURST_IP
    for scheme in ("light", "dark"):
        colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"home-{scheme}.png"))
    driver.switch_to.active_element.send_keys("/")
    driver.find_element(By.ID, "address").send_keys(BURST_IP, Keys.ENTER)
    settle(driver, BURST_IP)
    assert driver.find_element(By.ID, "verdict").text.startswith("Throttled until")
    assert "Ends by itself" in driver.find_element(By.ID, "release").text
    drawn = "const plot = document.getElementById('plot'); return plot.complete && plot.naturalWidth"
    WebDriverWait(driver, WAIT_S).until(lambda _: driver.execute_script(drawn))
    for scheme in ("light", "dark"):
        colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"sender-{scheme}.png"))
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith((asked.url, "data:"))] == []
    assert complaints(driver) == []


def test_it_can_be_used_by_keys_alone(site: tuple[Asked, dict[str, str]], driver: Chrome) -> None:
    asked, _ = site
    driver.get(f"{asked.url}/#/")
    settle(driver, "home")
    driver.find_element(By.TAG_NAME, "body").send_keys("j")
    focused = driver.switch_to.active_element
    assert focused.text == BURST_IP
    focused.send_keys(Keys.ENTER)
    settle(driver, BURST_IP)
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    settle(driver, "home")
    assert driver.find_element(By.ID, "home").is_displayed()


def test_on_a_small_screen_nothing_hangs_over(
    site: tuple[Asked, dict[str, str]], driver: Chrome, tmp_path: Path
) -> None:
    asked, _ = site
    screen(driver, 360, 740)
    for where, ready in (("#/", "home"), (f"#/sender/{BURST_IP}", BURST_IP)):
        driver.get(f"{asked.url}/{where}")
        settle(driver, ready)
        for scheme in ("light", "dark"):
            colours(driver, scheme)
            driver.save_screenshot(str(tmp_path / f"small-{ready}-{scheme}.png"))
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360


def test_what_a_page_shows_is_text_whatever_it_says(site: tuple[Asked, dict[str, str]], driver: Chrome) -> None:
    asked, _ = site
    driver.get(f"{asked.url}/#/sender/{quote('<img src=x onerror=alert(1)>', safe='')}")
    settle(driver, "<img src=x onerror=alert(1)>")
    assert driver.find_element(By.ID, "network").text == "<img src=x onerror=alert(1)>"
    assert "give an IPv4 or IPv6 address" in driver.find_element(By.ID, "sender-error").text


def post(asked: Asked, body: bytes, token: str = TOKEN) -> tuple[int, Any]:
    """An order's status and answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{asked.url}/v1/overrides", body, headers), timeout=WAIT_S
        ) as response:
            return response.status, orjson.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, orjson.loads(error.read())


@pytest.mark.parametrize(
    ("body", "token", "status", "said"),
    [
        (
            {"action": "release", "network": BURST_IP, "by": "me"},
            "wrong",
            401,
            "the token isn't that of worker.http_token",
        ),
        (
            {"action": "release", "network": "nowhere", "by": "me"},
            TOKEN,
            400,
            "'nowhere' is no network: give one such as",
        ),
        ({"action": "exempt", "network": BURST_IP, "by": "me"}, TOKEN, 400, "owner is missing: whose it is"),
        ({"action": "forget", "network": BURST_IP, "by": "me"}, TOKEN, 400, "give exempt, release or end"),
        ({"action": "release", "network": BURST_IP}, TOKEN, 400, "by is missing"),
        ([], TOKEN, 400, "give an object of texts"),
    ],
)
def test_an_order_that_can_not_be_is_answered_with_why(
    site: tuple[Asked, dict[str, str]], body: object, token: str, status: int, said: str
) -> None:
    asked, _ = site
    found, answer = post(asked, orjson.dumps(body), token)
    assert found == status
    assert said in answer["error"]
    assert asked.json("/v1/overrides")["history"] == []


def test_an_exemption_on_the_page_withdraws_the_throttle(
    site: tuple[Asked, dict[str, str]], driver: Chrome, tmp_path: Path
) -> None:
    asked, env = site
    complaints(driver)  # what others led to is told
    screen(driver, 1280, 900)
    driver.get(f"{asked.url}/#/")
    settle(driver, "home")
    given = {"network": BURST_IP, "owner": "ACME", "reason": "ticket 4711", "by": "postmaster", "token": TOKEN}
    for name, text in given.items():
        driver.find_element(By.CSS_SELECTOR, f"#order [name={name}]").send_keys(text)
    driver.find_element(By.CSS_SELECTOR, "#order button").click()
    said = driver.find_element(By.ID, "order-said")
    WebDriverWait(driver, WAIT_S).until(lambda _: said.text.startswith(f"add {BURST_IP}/32: exempt for good"))
    gone = f"return !document.getElementById('decisions').textContent.includes('{BURST_IP}')"
    WebDriverWait(driver, WAIT_S).until(lambda _: driver.execute_script(gone))
    for scheme in ("light", "dark"):
        colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"exempt-{scheme}.png"))
    assert "ticket 4711" in driver.find_element(By.ID, "overrides").text
    assert complaints(driver) == []
    told = tidegate("audit", env=env)
    assert told.returncode == 0, told.stderr.decode()
    assert b"postmaster" in told.stdout
    assert asked.json(f"/v1/decisions?search={BURST_IP}") == []
    assert post(asked, orjson.dumps({"action": "end", "network": BURST_IP, "by": "postmaster"}))[0] == 200
    assert post(asked, orjson.dumps({"action": "end", "network": BURST_IP, "by": "postmaster"}))[0] == 409
