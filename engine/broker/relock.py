"""Write `kafka.lock` again: `python -m engine.broker.relock` (needs the network; jars go to the cache).

It pins Kafka's server with its dependencies, its command line tools, and the binding of its log to log4j2. The tools and the
binding are pinned without dependencies: those of the tools are Kafka Connect, which isn't used here. Resolving all of them
together would apply log4j's version management, with kafka-clients 3.9.1.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from engine.broker.artifacts import cache_folder
from engine.broker.jars import KAFKA_VERSION, LOCK_FILE

SERVER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
WITHOUT_DEPENDENCIES = (
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",
)


def lock_text(repository: Path) -> str:
    """Resolve all jars and return the text of the lock file."""
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=30)
    inputs, transitive = context.resolver.resolve([context.create_dependency(SERVER)])
    dependencies = sorted(transitive, key=lambda each: (each.groupId, each.artifactId))
    alone = [context.create_dependency(coordinate) for coordinate in WITHOUT_DEPENDENCIES]
    lines = [f"# Apache Kafka {KAFKA_VERSION}: SHA-256, bytes, coordinate. Made by `python -m engine.broker.relock`."]
    for dependency in [*inputs, *alone, *dependencies]:
        content = dependency.artifact.resolve().read_bytes()
        coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
        lines.append(f"{hashlib.sha256(content).hexdigest()} {len(content):>8} {coordinate}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK_FILE.write_text(lock_text(cache_folder() / "repository"))
