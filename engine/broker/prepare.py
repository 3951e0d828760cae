"""Everything that a start would otherwise bring by itself, or do without: Kafka's jars and Java's class data cache.

`python -m engine.broker` runs it: about 15 s the first time, of which 5 s are the download, and 0.1 s when all is there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from engine.broker.artifacts import KAFKA_VERSION, cache_folder, class_path, exclusively
from engine.broker.broker import EmbeddedBroker
from engine.broker.startup import cache_file


def prepare() -> None:
    """Bring the jars and make the cache, whichever is missing; `OperatorError` when that fails."""
    jars = class_path()
    cache = cache_file(jars)
    if cache.exists():
        return
    console = Console(stderr=True)
    with exclusively(cache_folder()), console.status(f"Apache Kafka {KAFKA_VERSION}: making its start-up cache"):
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
