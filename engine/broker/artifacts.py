"""Apache Kafka's jars: pinned in `kafka.lock`, kept in the cache folder, checked by SHA-256 before every start.

The lock holds one jar a line: SHA-256, size in octets, coordinate (`group:artifact:version`); `engine.broker.relock` makes
it. The cache is `$TIDEGATE_CACHE_DIR` (else `~/.cache/tidegate`), in it `kafka-<version>/repository` in Maven's layout.

All jars are hashed each time: 45 MB take 45 ms, which is less than any book-keeping about what was checked before could
save safely. A jar that doesn't match is downloaded anew, as is one that an interrupted download left short.

Without network: copy the folder `kafka-<version>` from a machine where `python -m engine.broker` has run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from topics.errors import OperatorError

KAFKA_VERSION = "4.1.2"
LOCK_FILE = Path(__file__).with_name("kafka.lock")
DOWNLOAD_WAIT_S = 600.0


class Jar(NamedTuple):
    """One pinned jar. ``sha256`` in hexadecimal."""

    sha256: str
    size_octets: int
    coordinate: str

    @property
    def filename(self) -> str:
        """The jar's name in a repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def path(self, repository: Path) -> Path:
        """Where a repository in Maven's layout keeps the jar."""
        group, artifact, version = self.coordinate.split(":")
        return repository.joinpath(*group.split("."), artifact, version, self.filename)


def cache_folder() -> Path:
    """The folder of this Kafka version in the cache; it may not exist yet."""
    chosen = os.environ.get("TIDEGATE_CACHE_DIR")
    base = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tidegate"
    return base.absolute() / f"kafka-{KAFKA_VERSION}"


def pinned() -> tuple[Jar, ...]:
    """The jars of the lock file, in class path order."""
    lines = LOCK_FILE.read_text().splitlines()
    return tuple(
        Jar(sha256, int(size), coordinate)
        for sha256, size, coordinate in (line.split() for line in lines if line and not line.startswith("#"))
    )


def intact(jar: Jar, repository: Path) -> bool:
    """Whether the repository has the jar, octet for octet."""
    path = jar.path(repository)
    try:
        if path.stat().st_size != jar.size_octets:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


def class_path() -> str:
    """The checked jars as Java's class path; downloads what is missing, with progress on standard error.

    `OperatorError` when the cache can't be written or a download fails."""
    jars, repository = pinned(), cache_folder() / "repository"
    if any(not intact(jar, repository) for jar in jars):
        with exclusively(cache_folder()):
            # Another process may have brought some while this one waited.
            missing = [jar for jar in jars if not intact(jar, repository)]
            if missing:
                from engine.broker.download import download  # noqa: PLC0415 - 0.3 s of imports that few starts need

                download(missing, repository)
    return os.pathsep.join(str(jar.path(repository)) for jar in jars)


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Hold the cache folder against other processes that fill it; waits for them, up to `DOWNLOAD_WAIT_S`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "filling.lock").open("a")
    except OSError as error:
        reason = f"cache folder {folder} can't be written ({error.strerror})"
        raise OperatorError(f"{reason}: set TIDEGATE_CACHE_DIR to a folder that can") from error
    with lock:
        deadline_s = time.monotonic() + DOWNLOAD_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    reason = f"another process has been filling {folder} for {DOWNLOAD_WAIT_S / 60:.0f} minutes"
                    raise OperatorError(f"{reason}: end it, or set TIDEGATE_CACHE_DIR to another folder") from None
                time.sleep(0.2)
        yield
