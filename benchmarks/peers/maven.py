"""Contenders in Java: pinned jars from Maven's central repository, compiled with Eclipse's compiler, run on the broker's Java.

Each has a lock file next to its sources, one jar a line (SHA-256, bytes, coordinate), and gets exactly these. The runtime
is the embedded broker's, which has no compiler, so one is among the jars. Jars and classes go to the cache folder, classes
into a folder named by the sources' hash. `python -m benchmarks.peers.maven` writes the locks again (needs the network).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from benchmarks.harness.errors import Broken
from engine.broker.artifacts import cache_lock
from engine.broker.jars import KAFKA_VERSION, Jar, is_intact
from engine.broker.java import java_command, java_environment

SOURCES = Path(__file__).with_name("java")
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
LEVEL = "21"
TIMEOUT_S, ATTEMPTS = 60, 3
FLINK, FLINK_CONNECTOR, JACKSON, ECJ = "2.2.1", "5.0.0-2.2", "2.19.0", "3.43.0"
FLINK_PARTS = (
    "clients", "core", "core-api", "annotations", "runtime", "streaming-java", "metrics-core", "rpc-core", "rpc-akka-loader",
    "file-sink-common", "hadoop-fs", "queryable-state-client-java", "connector-datagen", "datastream", "datastream-api",
    "statebackend-rocksdb", "connector-base",
)  # fmt: skip
WANTED = {
    "compiler": [f"org.eclipse.jdt:ecj:{ECJ}"],
    "streams": [
        f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"com.fasterxml.jackson.core:jackson-core:{JACKSON}",
        "org.slf4j:slf4j-nop:1.7.36",
    ],
    "flink": [
        *(f"org.apache.flink:flink-{part}:{FLINK}" for part in FLINK_PARTS),
        f"org.apache.flink:flink-connector-kafka:{FLINK_CONNECTOR}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"com.fasterxml.jackson.core:jackson-core:{JACKSON}",
        "org.slf4j:slf4j-nop:1.7.36",
    ],
}
FLAGS = ("-XX:+UseParallelGC", "-Xms2g", "-Xmx2g", "-XX:-UsePerfData")
FLINK_FLAGS = tuple(
    f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in ("java.lang", "java.util", "java.time", "java.nio")
)


def _cache() -> Path:
    return Path(os.environ["TIDEGATE_CACHE_DIR"]).absolute() / "maven"


def pinned(name: str) -> list[Jar]:
    """Return the jars of a lock file, in class path order."""
    lines = [line.split() for line in (SOURCES / f"{name}.lock").read_text(encoding="utf-8").splitlines()]
    return [Jar(sha256, int(content), coordinate) for sha256, content, coordinate in lines]


def class_path(name: str) -> str:
    """Return the class path of a lock file's jars; downloads missing ones. `Broken` if they aren't available."""
    repository, jars = _cache() / "repository", pinned(name)
    with cache_lock(_cache()):
        for jar in jars:
            if not is_intact(jar, repository):
                _fetch(jar, repository)
    return os.pathsep.join(str(jar.path(repository)) for jar in jars)


def _fetch(jar: Jar, repository: Path) -> None:
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=TIMEOUT_S)
    reason = "its content is not what the lock pins"
    for _ in range(ATTEMPTS):
        jar.path(repository).unlink(missing_ok=True)
        try:
            context.create_dependency(jar.coordinate).artifact.resolve()
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:200]
        if is_intact(jar, repository):
            return
    raise Broken(f"{jar.filename} is not available: {reason}")


def command(name: str, main_class: str, *flags: str) -> tuple[str, ...]:
    """Compile a contender's classes and return its command line; `Broken` if that fails."""
    jars, compiler = class_path(name), class_path("compiler")
    sources = [SOURCES / f"{each}.java" for each in _classes(main_class)]
    folder = _cache() / f"classes-{_digest(name, sources)}"
    with cache_lock(_cache()):
        if not folder.exists():
            _compile(sources, compiler, jars, folder)
    path = os.pathsep.join([str(folder), jars])
    return tuple(java_command(path, [*FLAGS, *flags], main_class, []))


def _classes(main_class: str) -> list[str]:
    return ["Job", main_class, *(["SenderSerializer"] if main_class == "FlinkJob" else [])]


def _digest(name: str, sources: list[Path]) -> str:
    content = b"".join(source.read_bytes() for source in [SOURCES / f"{name}.lock", *sources])
    return hashlib.sha256(content).hexdigest()[:16]


def _compile(sources: list[Path], compiler: str, jars: str, folder: Path) -> None:
    words = [f"-{LEVEL}", "-nowarn", "-cp", jars]
    with tempfile.TemporaryDirectory(dir=_cache()) as made:
        words += ["-d", made, *map(str, sources)]
        command_line = java_command(compiler, [], COMPILER, words)
        done = subprocess.run(
            command_line, env=java_environment(), capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise Broken(f"{sources[1].name} can't be compiled: {' '.join((done.stdout + done.stderr).split())[:500]}")
        shutil.copytree(made, folder)


def relock() -> None:
    """Resolve all jars again and write the locks."""
    repository = _cache() / "repository"
    for name, coordinates in WANTED.items():
        context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=TIMEOUT_S)
        inputs, transitive = context.resolver.resolve([context.create_dependency(each) for each in coordinates])
        named = {(each.groupId, each.artifactId): each for each in [*transitive, *inputs]}
        lines = []
        for each in sorted(named.values(), key=lambda each: (each.groupId, each.artifactId)):
            content = each.artifact.resolve().read_bytes()
            coordinate = f"{each.groupId}:{each.artifactId}:{each.version}"
            lines.append(f"{hashlib.sha256(content).hexdigest()} {len(content):>8} {coordinate}\n")
        (SOURCES / f"{name}.lock").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    relock()
