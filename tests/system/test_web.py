"""A worker's HTTP server with a real Kafka: metrics, status, health and the page in a browser."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from engine.worker.metrics import METRICS
from tests.support.browsing import browser, console_messages, set_colours, set_screen, wait_for_page
from tests.support.worker_http import WorkerHttp
from tests.support.workers import WAIT_S, WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

EVENTS = 4_000
BURST_IP = "198.51.100.7"
TOKEN = "sesame-sesame-sesame"


def event_lines(now_ms: int) -> bytes:
    """Return an ordinary hour of some senders, and a newcomer's burst."""
    usual = [
        {"ts": now_ms - 3_000_000 + 600 * i, "ip": f"192.0.2.{i % 200}", "messages": 1, "recipients": 1}
        for i in range(EVENTS)
    ]
    burst = [{"ts": now_ms - 400_000 + i, "ip": BURST_IP, "messages": 1, "recipients": 1} for i in range(EVENTS)]
    return b"\n".join(orjson.dumps(event) for event in [*usual, *burst]) + b"\n"


@pytest.fixture(scope="module")
def site(
    broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WorkerHttp, dict[str, str]]]:
    """Run a worker that has read the events; give its HTTP server and the environment."""
    port, folder = free_port(), tmp_path_factory.mktemp("web")
    env = environment(broker.bootstrap, "web-", 2, WORKER_HTTP=f"127.0.0.1:{port}", WORKER_HTTP_TOKEN=TOKEN)
    assert tidegate("topics", "--create", env=env).returncode == 0
    produced = tidegate("produce", "-", env=env, stdin=event_lines(int(time.time() * 1000)))
    assert produced.returncode == 0, produced.stderr.decode()
    with WorkerProcess(env, folder) as worker:
        worker.wait_for(2, 2 * EVENTS)
        yield WorkerHttp(port), env
        assert worker.stop() == 0


def test_metrics_count_the_events_that_were_read(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, _ = site
    status, body = http.get("/metrics")
    assert status == 200
    values = {line.split(" ")[0]: float(line.split(" ")[1]) for line in body.decode().splitlines() if line[0] != "#"}
    counted = sum(value for name, value in values.items() if name.startswith("tidegate_events_total"))
    assert counted == 2 * EVENTS
    assert sum(value for name, value in values.items() if name.startswith("tidegate_consumer_lag_events")) == 0
    assert sum(value for name, value in values.items() if name.startswith("tidegate_throttles_total")) > 0
    shown = {name.partition("{")[0].removesuffix("_bucket") for name in values}
    assert {metric.exposed for metric in METRICS} - shown == {"tidegate_standby_keys", "tidegate_notifications_total"}


def test_healthy_worker_has_no_problems(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, _ = site
    assert http.get_json("/health") == {"healthy": True, "problems": []}
    status = http.get_json("/v1/status")
    assert (status["events"], set(status["partitions"])) == (2 * EVENTS, {"0", "1"})
    assert all(partition["lag"] == 0 for partition in status["partitions"].values())


def test_worker_runs_without_a_page_if_its_address_is_in_use(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(broker.bootstrap, prefix, 1, WORKER_HTTP=f"127.0.0.1:{port}")
        assert tidegate("topics", "--create", env=env).returncode == 0
        with WorkerProcess(env, tmp_path) as worker:
            worker.wait_for(1, 0)
            assert worker.stop() == 0
    assert f"no page, status or metrics at 127.0.0.1:{port}" in (tmp_path / "worker.log").read_text()


def test_status_and_top_query_the_worker(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, env = site
    status = tidegate("status", "--json", env=env)
    assert status.returncode == 0, status.stderr.decode()
    assert orjson.loads(status.stdout)["events"] == 2 * EVENTS
    top = tidegate("top", "--once", "--url", http.url, env=env)
    assert top.returncode == 0, top.stderr.decode()
    assert b"senders" in top.stdout


def test_page_loads_nothing_from_elsewhere(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, _ = site
    with urllib.request.urlopen(http.url, timeout=WAIT_S) as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
        text = response.read().decode()
    for name in ("/page.css", "/page.js"):
        text += http.get(name)[1].decode()
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_decisions_have_their_reason_in_words(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, _ = site
    until(lambda: bool(http.get_json("/v1/overview")["caught_up"]), "a decision log that has read everything")
    overview = http.get_json("/v1/overview")
    (burst,) = [decision for decision in overview["decisions"] if decision["network"] == f"{BURST_IP}/32"]
    assert burst["reason"] == "probation"
    assert "messages in" in burst["words"]
    assert overview["active"] == len(overview["decisions"]) > 0
    assert http.get_json(f"/v1/decisions?search={BURST_IP}") == [burst]
    assert http.get_json("/v1/decisions?search=198.51.100.8") == []
    assert http.get_json("/v1/top_senders")[0]["address"] == BURST_IP
    assert http.get_json("/v1/overrides") == {"overrides": [], "history": [], "writable": True}


def test_page_explains_a_sender_like_the_command(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, env = site
    page = http.get_json(f"/v1/senders/{BURST_IP}")
    explained = tidegate("explain", BURST_IP, "--json", env=env)
    assert explained.returncode == 0, explained.stderr.decode()
    command = orjson.loads(explained.stdout)
    same = ("network", "throttled", "past", "allowed", "until", "reason", "decisions", "config")
    assert {name: page[name] for name in same} == {name: command[name] for name in same}
    assert page["release"].startswith("ends at")
    assert len(page["decision_log"]) == len(page["decisions"])


def test_plot_shows_the_senders_last_day(site: tuple[WorkerHttp, dict[str, str]]) -> None:
    http, _ = site
    status, svg = http.get(f"/v1/senders/{BURST_IP}/plot.svg")
    assert status == 200
    assert f"{EVENTS:,} messages, 1 throttle period".encode() in svg


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/senders/nobody", "give an IPv4 or IPv6 address"),
        ("/v1/senders/203.0.113.99/plot.svg", "203.0.113.99/32 has sent nothing in the last 24.0 hours"),
        ("/v1/decisions?limit=all", "limit = 'all': give a whole number"),
    ],
)
def test_invalid_request_is_refused_with_the_expected_form(
    site: tuple[WorkerHttp, dict[str, str]], path: str, message: str
) -> None:
    http, _ = site
    status, body = http.get(path)
    assert status == 400
    assert message in orjson.loads(body)["error"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("browser")) as chrome:
        yield chrome


def test_reader_finds_a_sender_and_its_plot(
    site: tuple[WorkerHttp, dict[str, str]], driver: Chrome, tmp_path: Path
) -> None:
    http, _ = site
    driver.get(http.url)
    wait_for_page(driver, "home")
    assert driver.find_element(By.CSS_SELECTOR, "#decisions .who").text == BURST_IP
    for scheme in ("light", "dark"):
        set_colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"home-{scheme}.png"))
    driver.switch_to.active_element.send_keys("/")
    driver.find_element(By.ID, "address").send_keys(BURST_IP, Keys.ENTER)
    wait_for_page(driver, BURST_IP)
    assert driver.find_element(By.ID, "verdict").text.startswith("Throttled until")
    assert "Ends at" in driver.find_element(By.ID, "release").text
    drawn = "const plot = document.getElementById('plot'); return plot.complete && plot.naturalWidth"
    WebDriverWait(driver, WAIT_S).until(lambda _: driver.execute_script(drawn))
    for scheme in ("light", "dark"):
        set_colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"sender-{scheme}.png"))
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith((http.url, "data:"))] == []
    assert console_messages(driver) == []


def test_page_is_usable_by_keyboard(site: tuple[WorkerHttp, dict[str, str]], driver: Chrome) -> None:
    http, _ = site
    driver.get(f"{http.url}/#/")
    wait_for_page(driver, "home")
    driver.find_element(By.TAG_NAME, "body").send_keys("j")
    focused = driver.switch_to.active_element
    assert focused.text == BURST_IP
    focused.send_keys(Keys.ENTER)
    wait_for_page(driver, BURST_IP)
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for_page(driver, "home")
    assert driver.find_element(By.ID, "home").is_displayed()


def test_page_fits_on_a_small_screen(site: tuple[WorkerHttp, dict[str, str]], driver: Chrome, tmp_path: Path) -> None:
    http, _ = site
    set_screen(driver, 360, 740)
    for where, ready in (("#/", "home"), (f"#/sender/{BURST_IP}", BURST_IP)):
        driver.get(f"{http.url}/{where}")
        wait_for_page(driver, ready)
        for scheme in ("light", "dark"):
            set_colours(driver, scheme)
            driver.save_screenshot(str(tmp_path / f"small-{ready}-{scheme}.png"))
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360


def test_page_shows_markup_as_text(site: tuple[WorkerHttp, dict[str, str]], driver: Chrome) -> None:
    http, _ = site
    driver.get(f"{http.url}/#/sender/{quote('<img src=x onerror=alert(1)>', safe='')}")
    wait_for_page(driver, "<img src=x onerror=alert(1)>")
    assert driver.find_element(By.ID, "network").text == "<img src=x onerror=alert(1)>"
    assert "give an IPv4 or IPv6 address" in driver.find_element(By.ID, "sender-error").text


@pytest.mark.parametrize(
    ("body", "token", "status", "message"),
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
        ({"action": "exempt", "network": BURST_IP, "by": "me"}, TOKEN, 400, "owner is missing: give owner and contact"),
        ({"action": "forget", "network": BURST_IP, "by": "me"}, TOKEN, 400, "give exempt, release or end"),
        ({"action": "release", "network": BURST_IP}, TOKEN, 400, "by is missing"),
        ([], TOKEN, 400, "give an object of texts"),
    ],
)
def test_invalid_override_is_refused_with_the_reason(
    site: tuple[WorkerHttp, dict[str, str]], body: object, token: str, status: int, message: str
) -> None:
    http, _ = site
    replied, reply = http.post_override(orjson.dumps(body), token)
    assert replied == status
    assert message in reply["error"]
    assert http.get_json("/v1/overrides")["history"] == []


def test_exemption_on_the_page_withdraws_the_throttle(
    site: tuple[WorkerHttp, dict[str, str]], driver: Chrome, tmp_path: Path
) -> None:
    http, env = site
    console_messages(driver)  # clear those of other tests
    set_screen(driver, 1280, 900)
    driver.get(f"{http.url}/#/")
    wait_for_page(driver, "home")
    given = {"network": BURST_IP, "owner": "ACME", "reason": "ticket 4711", "by": "postmaster", "token": TOKEN}
    for name, text in given.items():
        driver.find_element(By.CSS_SELECTOR, f"#override [name={name}]").send_keys(text)
    driver.find_element(By.CSS_SELECTOR, "#override button").click()
    result = driver.find_element(By.ID, "override-result")
    WebDriverWait(driver, WAIT_S).until(lambda _: result.text.startswith(f"add {BURST_IP}/32: exempt until cancelled"))
    gone = f"return !document.getElementById('decisions').textContent.includes('{BURST_IP}')"
    WebDriverWait(driver, WAIT_S).until(lambda _: driver.execute_script(gone))
    for scheme in ("light", "dark"):
        set_colours(driver, scheme)
        driver.save_screenshot(str(tmp_path / f"exempt-{scheme}.png"))
    assert "ticket 4711" in driver.find_element(By.ID, "overrides").text
    assert console_messages(driver) == []
    audit = tidegate("audit", env=env)
    assert audit.returncode == 0, audit.stderr.decode()
    assert b"postmaster" in audit.stdout
    assert http.get_json(f"/v1/decisions?search={BURST_IP}") == []
    end = orjson.dumps({"action": "end", "network": BURST_IP, "by": "postmaster"})
    assert [http.post_override(end, TOKEN)[0] for _ in range(2)] == [200, 409]
