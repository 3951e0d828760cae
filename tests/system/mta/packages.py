"""Mail servers, unpacked into the cache folder and not installed: their packages exclude each other.

What can't be had (no apt, no network, not root where root is needed) skips the test, which says why.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.errors import Broken
from benchmarks.peers import debian

HARAKA = "Haraka@3.3.4"


def unpacked(name: str, *packages: str) -> Path:
    """The folder in which Debian packages lie unpacked."""
    try:
        return debian.unpacked(name, *packages)
    except Broken as missing:
        pytest.skip(str(missing))


def haraka() -> Path:
    """The folder with Haraka and its modules."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Haraka can't be had: no npm and node")
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
    """Skip unless the test may change users, as the server does."""
    if os.geteuid() != 0:
        pytest.skip(f"{name} must be started by root")
