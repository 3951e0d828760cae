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
    """No browser is installed; the message says what to install."""


def _executable(names: tuple[str, ...]) -> str:
    """Return the path of the first that is installed; raise `NoBrowser` without one."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise NoBrowser(f"needs a browser: no {names[0]} here (Debian, Ubuntu: apt install chromium chromium-driver)")


@contextmanager
def browser(folder: Path) -> Iterator[Chrome]:
    """Open a browser for a test; the test is skipped without one."""
    try:
        with open_browser(folder) as driver:
            yield driver
    except NoBrowser as error:
        pytest.skip(str(error))


@contextmanager
def open_browser(folder: Path) -> Iterator[Chrome]:
    """Open a browser (1280 x 900, English, UTC) with its profile in ``folder``; raise `NoBrowser` without one."""
    options = ChromeOptions()
    options.binary_location = _executable(BROWSERS)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--no-first-run", "--window-size=1280,900", "--lang=en-GB", f"--user-data-dir={folder / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(_executable(DRIVERS), env={**os.environ, "TZ": "UTC", "LANG": "en_GB.UTF-8"})
    driver = Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def wait_for_page(driver: Chrome, shown: str) -> None:
    """Wait until the page shows "home" or the sender with an address."""
    script = "return document.documentElement.dataset.ready"
    WebDriverWait(driver, WAIT_S, 0.05).until(lambda _: driver.execute_script(script) == shown)


def set_colours(driver: Chrome, scheme: str) -> None:
    """Emulate a system with a "light" or "dark" colour scheme."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def set_screen(driver: Chrome, width: int, height: int) -> None:
    """Emulate a screen of this size in pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def console_messages(driver: Chrome) -> list[str]:
    """Return and clear the messages on the browser's console."""
    return [str(line["message"]) for line in driver.get_log("browser")]  # type: ignore[no-untyped-call]
