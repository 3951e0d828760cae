"""Download Kafka's jars as ordinary Maven packages with jgo's pure Python resolver, and show a progress bar.

Each jar is tried three times and compared with its pinned hash. A jar that failed, or whose download was interrupted, is
removed, so the cache contains complete jars only.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from engine.broker.jars import KAFKA_VERSION, Jar, is_intact
from topics.errors import OperatorError

ATTEMPTS = 3
TIMEOUT_S = 30
BACKOFF_S = 1.0


def download(jars: Sequence[Jar], repository: Path) -> None:
    """Download jars into a repository. Raise OperatorError with advice if one fails."""
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # its warnings repeat the checks made here
    total_bytes = sum(jar.size_bytes for jar in jars)
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"downloading Apache Kafka {KAFKA_VERSION}: {len(jars)} jars, {total_bytes / 1e6:.0f} MB")
    with Progress(
        TextColumn(f"Apache Kafka {KAFKA_VERSION}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total_bytes)
        done_bytes = 0
        for jar in jars:

            def report(received_bytes: int, before_bytes: int = done_bytes) -> None:
                progress.update(task, completed=before_bytes + received_bytes)

            _fetch(jar, repository, report)
            done_bytes += jar.size_bytes
            progress.update(task, completed=done_bytes)


def _fetch(jar: Jar, repository: Path, report: Callable[[int], None]) -> None:
    """Download one jar; `report` is called with the bytes received so far."""

    @contextmanager
    def reporter(_filename: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        received_bytes = 0

        def add(count: int) -> None:
            nonlocal received_bytes
            received_bytes += count
            report(received_bytes)

        yield add

    resolver = PythonResolver(progress_callback=reporter)
    context = MavenContext(resolver=resolver, repo_cache=repository, timeout=TIMEOUT_S)
    artifact = context.create_dependency(jar.coordinate).artifact
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_S * attempt)
        jar.path(repository).unlink(missing_ok=True)
        is_complete = False
        try:
            artifact.resolve()
            is_complete = is_intact(jar, repository)
            reason = "its content differs from kafka.lock"
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo's "not found" is a RuntimeError
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise OperatorError(_unwritable(repository, error)) from error
            reason = str(error).splitlines()[0]
        finally:
            if not is_complete:
                jar.path(repository).unlink(missing_ok=True)
        if is_complete:
            return
    raise OperatorError(_failed(jar, repository, reason))


def _unwritable(repository: Path, error: OSError) -> str:
    return f"cache folder {repository} can't be written ({error.strerror}): free space, or set TIDEGATE_CACHE_DIR to another"


def _failed(jar: Jar, repository: Path, reason: str) -> str:
    advice = (
        "check the network (behind a proxy set HTTPS_PROXY) and run the same command again; without network, copy "
        f"{repository.parent} from a machine where `python -m engine.broker` has run"
    )
    return f"Apache Kafka's {jar.filename} could not be downloaded ({reason[:200]}): {advice}"
