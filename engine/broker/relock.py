"""Remake `kafka.lock`: `python -m engine.broker.relock` (needs the network; jars go to the cache).

Kafka's server with everything that it needs, its command line tools, and the binding that brings its log lines to log4j2.
Those last two are taken without their dependencies: the tools' are Kafka Connect, which nothing here runs, and resolving
them all at once lets log4j's own version management win, with kafka-clients 3.9.1.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from engine.broker.artifacts import KAFKA_VERSION, LOCK_FILE, cache_folder

SERVER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
ALONE = (f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3")


def lock_text(repository: Path) -> str:
    """The lock file's text, resolved anew."""
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=30)
    inputs, transitive = context.resolver.resolve([context.create_dependency(SERVER)])
    needed = sorted(transitive, key=lambda each: (each.groupId, each.artifactId))
    alone = [context.create_dependency(coordinate) for coordinate in ALONE]
    lines = [f"# Apache Kafka {KAFKA_VERSION}: SHA-256, octets, coordinate. Made by `python -m engine.broker.relock`."]
    for dependency in [*inputs, *alone, *needed]:
        octets = dependency.artifact.resolve().read_bytes()
        coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
        lines.append(f"{hashlib.sha256(octets).hexdigest()} {len(octets):>8} {coordinate}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK_FILE.write_text(lock_text(cache_folder() / "repository"))
