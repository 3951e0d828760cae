"""Mail servers, unpacked into the cache folder instead of installed, because their packages conflict.

A test whose server is unavailable (no apt, no network, no root where it is needed) is skipped with the reason.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.harness.errors import Broken
from benchmarks.peers import debian

HARAKA = "Haraka@3.3.4"


def unpacked(name: str, *packages: str) -> Path:
    """Return the folder with unpacked Debian packages."""
    try:
        return debian.unpacked(name, *packages)
    except Broken as missing:
        pytest.skip(str(missing))


def haraka() -> Path:
    """Return the folder with Haraka and its modules."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Haraka is unavailable: no npm and node")
    folder = Path(os.environ["TIDEGATE_CACHE_DIR"]) / "npm" / HARAKA
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--omit=optional", "--omit=dev", "--no-audit", "--no-fund", HARAKA]
        try:
            debian.run("Haraka", command, folder)
        except Broken as missing:
            pytest.skip(str(missing))
        (folder / "complete").touch()
    return folder / "node_modules"


def need_root(name: str) -> None:
    """Skip the test unless it runs as root, because the server changes its user."""
    if os.geteuid() != 0:
        pytest.skip(f"{name} must be started by root")
