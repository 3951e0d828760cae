"""A real broker for the session, and names that no other test uses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.broker import EmbeddedBroker
from engine.broker.prepare import prepare

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka_cache() -> None:
    """Kafka's jars and its start-up cache are there: the first run on a machine makes them (about 15 s)."""
    prepare()


@pytest.fixture(scope="session")
def broker(kafka_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The session's broker. Tests that stop or kill a broker start their own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test alone."""
    return f"t{next(_numbers)}-"


@pytest.fixture
def broker_folder(kafka_cache: None, tmp_path: Path) -> Path:
    """A data folder for a broker of this test's own."""
    return tmp_path / "broker"
