"""Input and output files of commands: plain or gzip, ``-`` for a standard stream, with progress on standard error."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from engine.pipeline.replay import whole_lines
from topics.errors import OperatorError

GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def progress(total: int | None, label: str) -> Iterator[Progress]:
    """Show a progress bar of bytes on standard error, if that is a terminal. The caller advances its first task."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        bar.add_task(label, total=total)
        yield bar


class _Counted:
    """A file that advances the progress bar as it is read."""

    def __init__(self, file: BinaryIO, bar: Progress) -> None:
        self._file, self._bar = file, bar

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._bar.advance(self._bar.task_ids[0], len(data))
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def size_of(names: list[str]) -> int | None:
    """Return the bytes in all files, None if one is standard input."""
    return None if "-" in names else sum(Path(name).stat().st_size for name in names)


@contextmanager
def event_file(name: str, bar: Progress) -> Iterator[BinaryIO]:
    """Open a file for reading. Gzip is recognised by its first bytes; damaged or truncated gzip raises OperatorError."""
    raw = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115 (closed below, unless it is stdin)
    try:
        head = raw.peek(2)[:2] if hasattr(raw, "peek") else b""
        counted = cast(BinaryIO, _Counted(raw, bar))
        yield cast(BinaryIO, gzip.GzipFile(fileobj=counted)) if head == GZIP_MAGIC else counted
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OperatorError(
            f"{name}: the gzip data is truncated or damaged ({error}); everything before that was used"
        ) from error
    finally:
        if raw is not sys.stdin.buffer:
            raw.close()


def event_files(names: Iterable[str], label: str) -> Iterator[BinaryIO]:
    """Open one file after the other, with one progress bar for all."""
    files = list(names)
    with progress(size_of(files), label) as bar:
        for name in files:
            with event_file(name, bar) as source:
                yield source


def numbered_lines(name: str, label: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that aren't empty, with their numbers from 1."""
    for source in event_files([name], label):
        number = 0
        for text in whole_lines(source):
            for line in text.splitlines():
                number += 1
                if line.strip():
                    yield number, line


@contextmanager
def output_file(name: str) -> Iterator[BinaryIO]:
    """Open a file for writing, gzip if its name ends in .gz; ``-`` is standard output."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif name.endswith(".gz"):
        with gzip.open(name, "wb", compresslevel=6) as packed:
            yield cast(BinaryIO, packed)
    else:
        with Path(name).open("wb") as plain:
            yield plain
