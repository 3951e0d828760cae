"""Read compressed files: gzip, bzip2, xz and zstd, detected by the first bytes.

zstd is decompressed into a temporary file, since the library has no stream reader: it needs the space of the text on the disk
and the compressed data in memory, at most `MAX_ZSTD_BYTES`. A file that is cut or damaged gives the part before the damage, and
then one of `DAMAGE`.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from io import BufferedReader
from tempfile import NamedTemporaryFile
from typing import Protocol

import cramjam

from topics.errors import OperatorError

DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
MAX_ZSTD_BYTES = 1 << 30
_ZSTD = b"\x28\xb5\x2f\xfd"


class ByteSource(Protocol):
    """A source of bytes."""

    def read1(self, size: int = -1, /) -> bytes:
        """Return some bytes, b"" at the end."""


class _ZstdFile:
    """A zstd file, decompressed when it is opened."""

    def __init__(self, raw: BufferedReader, name: str) -> None:
        packed = raw.read(MAX_ZSTD_BYTES + 1)
        if len(packed) > MAX_ZSTD_BYTES:
            raise OperatorError(
                f"{name} is too large for zstd: give its text on standard input (zstd -dc {name} | … -)"
            )
        self._error: Exception | None = None
        self._text = NamedTemporaryFile("rb")  # noqa: SIM115 (removed when this object is)
        try:
            cramjam.zstd.decompress_into(packed, cramjam.File(self._text.name, read=True, write=True, truncate=True))
        except cramjam.DecompressionError as error:
            self._error = EOFError() if "incomplete" in str(error) else OSError(str(error))

    def read1(self, size: int = -1, /) -> bytes:
        data = self._text.read(size)
        if not data and self._error:
            raise self._error
        return data


def decompressed(raw: BufferedReader, name: str) -> ByteSource:
    """Return the content of a file, or `raw` itself if it isn't compressed. Reading may raise one of `DAMAGE`."""
    magic = raw.peek(6)[:6]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if magic == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    return _ZstdFile(raw, name) if magic.startswith(_ZSTD) else raw


def damage_text(name: str, error: Exception) -> str:
    """Return one sentence for an error in `DAMAGE`."""
    if isinstance(error, EOFError):
        return f"{name} ends in the middle of its compressed data; the part before was read"
    return f"{name} is damaged ({error}); the part before the damage was read"
