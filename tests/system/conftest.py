"""Names and folders for system tests; the session's broker is in `tests/conftest.py`."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

_numbers = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test alone."""
    return f"t{next(_numbers)}-"


@pytest.fixture
def broker_folder(kafka_cache: None, tmp_path: Path) -> Path:
    """A data folder for a broker of this test's own."""
    return tmp_path / "broker"
