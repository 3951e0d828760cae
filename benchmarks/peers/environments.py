"""Virtual environments for contenders whose packages conflict with this project's: created once, from locks with hashes.

They are in the cache folder, each named after its lock's hash, so that another lock creates another environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from benchmarks.peers.debian import run
from engine.broker.artifacts import cache_lock

LOCKS = Path(__file__).with_name("locks")


def python_of(name: str) -> str:
    """Return the interpreter of the environment of ``locks/NAME.lock``; `Broken` if it can't be created."""
    lock = LOCKS / f"{name}.lock"
    cache = Path(os.environ["TIDEGATE_CACHE_DIR"]).absolute() / "environments"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"{name}-{version}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    with cache_lock(cache):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(name, lock, folder)
            (folder / "complete").touch()
    return str(folder / "bin" / "python")


def _make(name: str, lock: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    run(name, [sys.executable, "-m", "venv", str(folder)], folder)
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--no-deps",
    ]
    run(name, [*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(lock)], folder)
