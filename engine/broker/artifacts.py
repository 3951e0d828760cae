"""The cache of Kafka's jars: downloaded when missing, checked by SHA-256 before every start.

The cache is `$TIDEGATE_CACHE_DIR` (default `~/.cache/tidegate`), with `kafka-<version>/repository` in Maven's layout. All jars
are hashed at every start: 45 MB take 45 ms, less than a record of earlier checks could safely save. A jar that doesn't match,
or that an interrupted download truncated, is downloaded again.

Without network: copy the folder `kafka-<version>` from a machine where `python -m engine.broker` has run.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.broker.jars import KAFKA_VERSION, is_intact, pinned_jars
from topics.errors import OperatorError

DOWNLOAD_WAIT_S = 600.0


def cache_folder() -> Path:
    """Return the cache folder of this Kafka version, which may not exist."""
    chosen = os.environ.get("TIDEGATE_CACHE_DIR")
    base = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tidegate"
    return base.absolute() / f"kafka-{KAFKA_VERSION}"


def class_path() -> str:
    """Return the checked jars as Java's class path; download missing ones with progress on standard error.

    Raise OperatorError if the cache can't be written or a download fails.
    """
    jars, repository = pinned_jars(), cache_folder() / "repository"
    if any(not is_intact(jar, repository) for jar in jars):
        with cache_lock(cache_folder()):
            # Another process may have downloaded some while this one waited.
            missing = [jar for jar in jars if not is_intact(jar, repository)]
            if missing:
                from engine.broker.download import download  # noqa: PLC0415 - 0.3 s of imports that few starts need

                download(missing, repository)
    return os.pathsep.join(str(jar.path(repository)) for jar in jars)


@contextmanager
def cache_lock(folder: Path) -> Iterator[None]:
    """Lock the cache folder against other processes that fill it; wait for them for at most `DOWNLOAD_WAIT_S`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "filling.lock").open("a")
    except OSError as error:
        reason = f"cache folder {folder} can't be written ({error.strerror})"
        raise OperatorError(f"{reason}: set TIDEGATE_CACHE_DIR to a writable folder") from error
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
