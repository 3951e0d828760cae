"""What all tests share: a deterministic hypothesis, a cache inside the clone, time-outs, the shared logs and traces.

``--hypothesis-profile=explore`` searches longer and from another seed each time; a failure prints how to repeat it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engine.broker import EmbeddedBroker
from engine.broker.prepare import prepare
from tests.support.pace import scaled

ROOT = Path(__file__).resolve().parents[1]

KEPT = {"TIDEGATE_CACHE_DIR", "TIDEGATE_SHARED"}

for variable in [name for name in os.environ if name.startswith("TIDEGATE_") and name not in KEPT]:
    del os.environ[variable]  # a user's configuration must not change what is tested, or reach a real cluster
os.environ.setdefault("TIDEGATE_CACHE_DIR", str(ROOT / ".cache"))

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", max_examples=5_000, deadline=None, database=None, print_blob=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Scale every test's time-out with the machine's pace."""
    default_s = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0]) if marker and marker.args else default_s
        item.add_marker(pytest.mark.timeout(scaled(seconds)), append=False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone."""
    return ROOT


@pytest.fixture(scope="session")
def kafka_cache() -> None:
    """Prepare Kafka's jars and its start-up cache: the first run on a machine makes them (about 15 s)."""
    prepare()


@pytest.fixture(scope="session")
def broker(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """Run the session's broker. Tests that stop or kill a broker start their own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real logs and traces: $TIDEGATE_SHARED, or ``../shared``; without it the test is skipped."""
    folder = Path(os.environ.get("TIDEGATE_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs real logs and traces, and there is no {folder}: set TIDEGATE_SHARED")
    return folder
