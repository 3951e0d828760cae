"""Prepare a start: download Kafka's jars and make Java's class data cache.

`python -m engine.broker` runs it: about 15 s the first time, 5 s of them for the download; 0.1 s if everything is there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from engine.broker.artifacts import cache_folder, cache_lock, class_path
from engine.broker.broker import EmbeddedBroker
from engine.broker.jars import KAFKA_VERSION
from engine.broker.java import class_cache


def prepare() -> None:
    """Download the jars and make the class data cache if missing. Raise OperatorError if that fails."""
    jars = class_path()
    cache = class_cache(jars)
    if cache.exists():
        return
    console = Console(stderr=True)
    with cache_lock(cache_folder()), console.status(f"Apache Kafka {KAFKA_VERSION}: making its start-up cache"):
        if not cache.exists():
            _make(cache)


def _make(cache: Path) -> None:
    for outdated in cache_folder().glob("start-*.aot"):
        outdated.unlink()
    for abandoned in cache_folder().glob("making-*"):
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache_folder()) as folder:
        fresh = Path(folder) / "fresh.aot"
        with EmbeddedBroker(Path(folder) / "broker", flags=[f"-XX:AOTCacheOutput={fresh}"]):
            pass
        if fresh.exists():
            fresh.replace(cache)
