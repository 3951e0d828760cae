"""Read a log file's lines as bytes: plain or compressed (`engine.imports.compression`), or standard input (`-`).

Nothing is decoded. A line longer than 1 MiB is returned in pieces. A compressed file that is truncated or damaged ends early:
the readable part is returned and `LogFile.damage` describes the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path

from engine.imports.compression import DAMAGE, damage_text, decompressed
from topics.errors import OperatorError

STANDARD_STREAM = "-"
MAX_LINE_BYTES = 1 << 20
HEAD_LINES = 20
_CHUNK = 1 << 18


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

    def head(self) -> bytes:
        """Return the first `HEAD_LINES` lines; b"" if the file can't be read a second time, such as standard input."""
        if self.path == STANDARD_STREAM or not Path(self.path).is_file():
            return b""
        return b"\n".join(islice(self.lines(), HEAD_LINES))

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
            source = decompressed(raw, self.name)
            try:
                while chunk := source.read1(_CHUNK):
                    self._report(raw)
                    yield chunk
            except DAMAGE as error:
                self.damage = damage_text(self.name, error)

    def _report(self, raw: BufferedReader) -> None:
        if self.size:
            position = raw.tell()
            self._advance(position - self._reported)
            self._reported = position
