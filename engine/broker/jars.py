"""The pinned jars of Apache Kafka: names, paths and checks.

`kafka.lock` has one jar per line: SHA-256, size in bytes, coordinate (`group:artifact:version`). `engine.broker.relock` writes
it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

KAFKA_VERSION = "4.1.2"
LOCK_FILE = Path(__file__).with_name("kafka.lock")


class Jar(NamedTuple):
    """One pinned jar."""

    sha256: str  # hexadecimal
    size_bytes: int
    coordinate: str

    @property
    def filename(self) -> str:
        """Return the jar's name in a repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def path(self, repository: Path) -> Path:
        """Return the jar's path in a repository of Maven's layout."""
        group, artifact, version = self.coordinate.split(":")
        return repository.joinpath(*group.split("."), artifact, version, self.filename)


def pinned_jars() -> tuple[Jar, ...]:
    """Return the jars of the lock file, in class path order."""
    lines = LOCK_FILE.read_text().splitlines()
    return tuple(
        Jar(sha256, int(size), coordinate)
        for sha256, size, coordinate in (line.split() for line in lines if line and not line.startswith("#"))
    )


def is_intact(jar: Jar, repository: Path) -> bool:
    """Return True if the repository has the jar, with size and SHA-256 of the lock file."""
    path = jar.path(repository)
    try:
        if path.stat().st_size != jar.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False
