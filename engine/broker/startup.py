"""Java's class data cache for the broker: what halves its start, from 2.6 s to 1.2 s.

Made once (10 s) by `engine.broker.prepare`, from a broker that starts and stops in a folder of its own; Java writes the
cache as that one ends. Its name holds all that it depends on, so a moved cache folder or another Java gets a new one, and
Java itself ignores a cache that doesn't fit. Without one everything works, only slower: a start never makes it by itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.broker.artifacts import cache_folder
from engine.broker.java import BROKER_FLAGS, java_executable


def cache_file(class_path: str) -> Path:
    """Where the cache for this Java and class path is kept; it may not exist."""
    java = java_executable()
    depends_on = "\n".join([str(java), (java.parents[1] / "release").read_text(), class_path, *BROKER_FLAGS])
    return cache_folder() / f"start-{hashlib.sha256(depends_on.encode()).hexdigest()[:16]}.aot"


def cache_flags(class_path: str) -> list[str]:
    """The flags that make Java use the cache; none when there is none."""
    cache = cache_file(class_path)
    return [f"-XX:AOTCache={cache}"] if cache.exists() else []
