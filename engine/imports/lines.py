"""Read a log file's lines as bytes: plain, gzip, bzip2 or xz, detected by its first bytes, or standard input (`-`).

Nothing is decoded. A line longer than 1 MiB is returned in pieces. A compressed file that is truncated or damaged ends early:
the readable part is returned and `LogFile.damage` describes the rest.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from topics.errors import OperatorError

STANDARD_STREAM = "-"
MAX_LINE_BYTES = 1 << 20
_CHUNK = 1 << 18
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Source(Protocol):
    def read1(self, size: int = -1, /) -> bytes: ...


def _decompressed(raw: BufferedReader, name: str) -> _Source:
    magic = raw.peek(6)[:6]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if magic == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    if magic.startswith(_ZSTD):
        raise OperatorError(f"{name} is compressed with zstd: give its text on standard input (zstd -dc {name} | … -)")
    return raw


class LogFile:
    """One input file. Raise OperatorError if it can't be opened.

    `advance` is called with the number of bytes newly read from disk, for a progress bar.
    """

    def __init__(self, path: str, advance: Callable[[int], None] = lambda _: None) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_STREAM else path
        self.damage = ""  # one sentence if the file could not be read to its end
        self.size = 0
        self.modified_s: float | None = None
        self._advance = advance
        self._reported = 0
        if path != STANDARD_STREAM:
            try:
                with Path(path).open("rb"):
                    status = Path(path).stat()
            except OSError as error:
                raise OperatorError(f"can't read {path}: {error.strerror}") from error
            self.size, self.modified_s = status.st_size, status.st_mtime

    def lines(self) -> Iterator[bytes]:
        """Yield every line without its line feed, which the last line may lack."""
        tail = b""
        for chunk in self._chunks():
            lines = (tail + chunk).split(b"\n")
            tail = lines.pop()
            yield from lines
            if len(tail) > MAX_LINE_BYTES:
                yield tail
                tail = b""
        if tail:
            yield tail

    def _chunks(self) -> Iterator[bytes]:
        with sys.stdin.buffer if self.path == STANDARD_STREAM else Path(self.path).open("rb", _CHUNK) as raw:
            assert isinstance(raw, BufferedReader)
            source = _decompressed(raw, self.name)
            try:
                while chunk := source.read1(_CHUNK):
                    self._report(raw)
                    yield chunk
            except EOFError:
                self.damage = f"{self.name} ends in the middle of its compressed data; the part before was read"
            except (OSError, zlib.error, lzma.LZMAError) as error:
                self.damage = f"{self.name} is damaged ({error}); the part before the damage was read"

    def _report(self, raw: BufferedReader) -> None:
        if self.size:
            position = raw.tell()
            self._advance(position - self._reported)
            self._reported = position
