"""Download Kafka's jars as ordinary Maven packages, through jgo's pure Python resolver, with a progress bar.

Each jar is tried three times and compared with its pinned hash before it counts. A jar that failed, or whose download was
interrupted, is removed, so that the cache holds whole jars only.
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

from engine.broker.artifacts import KAFKA_VERSION, Jar, intact
from topics.errors import OperatorError

ATTEMPTS = 3
TIMEOUT_S = 30
BACKOFF_S = 1.0


def download(jars: Sequence[Jar], repository: Path) -> None:
    """Bring ``jars`` into ``repository``; `OperatorError` that says what to do when one can't be had."""
    logging.getLogger("jgo").setLevel(
        logging.CRITICAL
    )  # it warns of what is checked here, with the same words for less
    total_octets = sum(jar.size_octets for jar in jars)
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"downloading Apache Kafka {KAFKA_VERSION}: {len(jars)} jars, {total_octets / 1e6:.0f} MB")
    with Progress(
        TextColumn(f"Apache Kafka {KAFKA_VERSION}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total_octets)
        done_octets = 0
        for jar in jars:

            def arrived(received_octets: int, before_octets: int = done_octets) -> None:
                progress.update(task, completed=before_octets + received_octets)

            _fetch(jar, repository, arrived)
            done_octets += jar.size_octets
            progress.update(task, completed=done_octets)


def _fetch(jar: Jar, repository: Path, arrived: Callable[[int], None]) -> None:
    """Bring one jar; ``arrived(octets)`` is told how much of it there is."""

    @contextmanager
    def reporter(_filename: str, _size_octets: int) -> Iterator[Callable[[int], None]]:
        received_octets = 0

        def add(count_octets: int) -> None:
            nonlocal received_octets
            received_octets += count_octets
            arrived(received_octets)

        yield add

    resolver = PythonResolver(progress_callback=reporter)
    context = MavenContext(resolver=resolver, repo_cache=repository, timeout=TIMEOUT_S)
    artifact = context.create_dependency(jar.coordinate).artifact
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_S * attempt)
        jar.path(repository).unlink(missing_ok=True)
        whole = False
        try:
            artifact.resolve()
            whole = intact(jar, repository)
            reason = "its content is not what kafka.lock pins"
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo's "not found" is a RuntimeError
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise OperatorError(_unwritable(repository, error)) from error
            reason = str(error).splitlines()[0]
        finally:
            if not whole:
                jar.path(repository).unlink(missing_ok=True)
        if whole:
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
