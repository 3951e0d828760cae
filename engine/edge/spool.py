"""Batches of events on disk until Kafka has them: numbered files, each written atomically, limited in total size.

A file is a magic, a CRC-32 and zstd over lines of JSON. Numbers only grow, also across restarts, and identify a batch
permanently. The sender commits a batch's number together with its events and then removes the file. At the limit the oldest
batch is dropped and counted. A damaged file is renamed to ``*.bad`` and counted.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import zlib
from pathlib import Path

import cramjam

from engine.edge.state_dir import write_atomically

logger = logging.getLogger(__name__)
MAGIC = b"TGSPOOL1"
HEAD = len(MAGIC) + 4
SUFFIX, GONE = ".events", ".gone"
FIRST = 1


class Spool:
    """The batches in `folder`, at most `max_bytes` in total."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._max_bytes = folder, max_bytes
        self.identity = self._identity()  # unique among all spools
        self._sizes = {int(path.stem): path.stat().st_size for path in sorted(folder.glob(f"*{SUFFIX}"))}
        self._next = max((int(path.stem) for path in folder.glob("[0-9]*.*")), default=0) + FIRST
        self.size_bytes = sum(self._sizes.values())
        self.dropped_batches = 0

    def __len__(self) -> int:
        """Return the number of batches on disk."""
        return len(self._sizes)

    def append(self, lines: list[bytes]) -> None:
        """Write a batch; drops the oldest ones to stay within the limit. Raises OSError if the write fails."""
        packed = bytes(cramjam.zstd.compress(b"\n".join(lines)))
        content = MAGIC + zlib.crc32(packed).to_bytes(4, "little") + packed
        while self._sizes and self.size_bytes + len(content) > self._max_bytes:
            self.remove(next(iter(self._sizes)))
            self.dropped_batches += 1
        number, self._next = self._next, self._next + 1
        write_atomically(self._path(number), content)
        self._sizes[number] = len(content)
        self.size_bytes += len(content)

    def oldest(self) -> tuple[int, list[bytes]] | None:
        """Return number and lines of the oldest readable batch, None if there is none."""
        while self._sizes:
            number = next(iter(self._sizes))
            try:
                content = self._path(number).read_bytes()
            except FileNotFoundError:
                self._forget(number)
                continue
            packed = content[HEAD:]
            if content[:HEAD] == MAGIC + zlib.crc32(packed).to_bytes(4, "little"):
                return number, bytes(cramjam.zstd.decompress(packed)).split(b"\n")
            logger.warning("batch %d of the spool is damaged: renamed to *.bad", number)
            self._path(number).replace(self._path(number).with_suffix(".bad"))
            self._forget(number)
            self.dropped_batches += 1
        return None

    def remove(self, number: int) -> None:
        """Remove a batch that is in Kafka or dropped. Its name is kept until the next removal, so its number isn't reused."""
        former = list(self._folder.glob(f"*{GONE}"))
        with contextlib.suppress(FileNotFoundError):
            self._path(number).replace(self._path(number).with_suffix(GONE))
            for path in former:
                path.unlink(missing_ok=True)
        self._forget(number)

    def remove_through(self, committed: int) -> None:
        """Remove all batches up to the number that Kafka has committed; later batches get higher numbers."""
        for number in [number for number in self._sizes if number <= committed]:
            self.remove(number)
        self._next = max(self._next, committed + 1)

    def _forget(self, number: int) -> None:
        self.size_bytes -= self._sizes.pop(number, 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}{SUFFIX}"

    def _identity(self) -> str:
        path = self._folder / "identity"
        if not path.exists():
            write_atomically(path, secrets.token_hex(8).encode())
        return path.read_text(encoding="ascii")
