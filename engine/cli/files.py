"""Input and output files of commands: plain or compressed, ``-`` for a standard stream, with progress on standard error."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from engine.cli.options import Invocation
from engine.imports.compression import DAMAGE, ByteSource, damage_text, decompressed
from engine.pipeline.replay import whole_lines

READ_AHEAD_BYTES = 1 << 16


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

    def read1(self, size: int = -1) -> bytes:
        data = self._file.read1(size) if isinstance(self._file, BufferedReader) else self._file.read(size)
        self._bar.advance(self._bar.task_ids[0], len(data))
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


class EventSource:
    """A compressed file that ends at its damage, if any: after the last whole line, with a sentence on standard error."""

    def __init__(self, source: ByteSource, name: str) -> None:
        self._source, self._name = source, "standard input" if name == "-" else name
        self._buffer = b""
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes (-1: all), fewer at the end. Reads ahead, so that no part of a damaged line is returned."""
        parts, length = [self._buffer], len(self._buffer)
        while not self._ended and (size < 0 or length < size + READ_AHEAD_BYTES):
            try:
                chunk = self._source.read1(READ_AHEAD_BYTES)
            except DAMAGE as error:
                whole = b"".join(parts)
                parts = [whole[: whole.rfind(b"\n") + 1]]
                self._ended = True
                report_damage(damage_text(self._name, error))
            else:
                parts.append(chunk)
                length += len(chunk)
                self._ended = not chunk
        data = b"".join(parts)
        end = len(data) if size < 0 else size
        self._buffer = data[end:]
        return data[:end]


def report_damage(sentence: str) -> None:
    """Report damaged input on standard error. The exit status of the command is then at least 1."""
    click.echo(sentence, err=True)
    context = click.get_current_context(silent=True)
    invocation = context.find_object(Invocation) if context else None
    if invocation:
        invocation.damage.append(sentence)


def size_of(names: list[str]) -> int | None:
    """Return the bytes in all files, None if one is standard input."""
    return None if "-" in names else sum(Path(name).stat().st_size for name in names)


@contextmanager
def event_file(name: str, bar: Progress) -> Iterator[BinaryIO]:
    """Open a file for reading, plain or compressed. A damaged one is read up to the damage; the exit status is 1 then."""
    raw = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115 (closed below, unless it is stdin)
    try:
        counted = cast(
            BufferedReader, _Counted(raw if hasattr(raw, "peek") else BufferedReader(cast(RawIOBase, raw)), bar)
        )
        source = decompressed(counted, name)
        yield cast(BinaryIO, counted if source is counted else EventSource(source, name))
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
    """Open a file for writing, gzip if its name ends in .gz; ``-`` is standard output.

    A regular file is written under another name next to it and renamed when it is complete. So after an interruption the
    file of that name is the old one, or there is none.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name).resolve()
    if (path.exists() and not path.is_file()) or not os.access(path.parent, os.W_OK):
        with _opened(path, is_gzip=name.endswith(".gz")) as out:
            yield out
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _opened(part, is_gzip=name.endswith(".gz")) as out:
            yield out
        if path.exists():
            shutil.copymode(path, part)
        part.replace(path)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {name} was not written", err=True)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, *, is_gzip: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as plain:
        if not is_gzip:
            yield plain
            return
        with gzip.GzipFile(path.name.removesuffix(".gz"), "wb", 6, plain) as packed:
            yield cast(BinaryIO, packed)
