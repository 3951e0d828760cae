"""A headless Chromium for tests and benchmarks of the page: Debian's chromium and chromium-driver, driven by Selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.pace import scaled

WAIT_S = scaled(15)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


class NoBrowser(Exception):
    """There is none here; the message says what to install."""


def _found(names: tuple[str, ...]) -> str:
    """Where one of them is; `NoBrowser`."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise NoBrowser(f"needs a browser: no {names[0]} here (Debian, Ubuntu: apt install chromium chromium-driver)")


@contextmanager
def browser(folder: Path) -> Iterator[Chrome]:
    """A browser for a test, which is skipped without one."""
    try:
        with opened(folder) as driver:
            yield driver
    except NoBrowser as error:
        pytest.skip(str(error))


@contextmanager
def opened(folder: Path) -> Iterator[Chrome]:
    """A browser whose profile is in ``folder``, 1280 x 900, in English and UTC; `NoBrowser`."""
    options = ChromeOptions()
    options.binary_location = _found(BROWSERS)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--no-first-run", "--window-size=1280,900", "--lang=en-GB", f"--user-data-dir={folder / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(_found(DRIVERS), env={**os.environ, "TZ": "UTC", "LANG": "en_GB.UTF-8"})
    driver = Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def settle(driver: Chrome, wanted: str) -> None:
    """Wait until the page shows what was ``wanted`` of it: "home" or an address."""
    script = "return document.documentElement.dataset.ready"
    WebDriverWait(driver, WAIT_S, 0.05).until(lambda _: driver.execute_script(script) == wanted)


def colours(driver: Chrome, scheme: str) -> None:
    """As if the reader's system were ``light`` or ``dark``."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def screen(driver: Chrome, width: int, height: int) -> None:
    """A screen of so many pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def complaints(driver: Chrome) -> list[str]:
    """What the page has written to the browser's console so far."""
    return [str(line["message"]) for line in driver.get_log("browser")]  # type: ignore[no-untyped-call]
