"""Batches of events on disk until Kafka has them: numbered files, bounded together, each written whole.

A file is a magic, a CRC-32 and zstd over lines of JSON. Numbers only grow, over restarts too, and name a batch for ever: who
sends one makes its number durable together with its events, and removes the file afterwards. At the bound the oldest batch
is dropped and counted. A file that can't be read back is set aside as ``*.bad`` and counted.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import zlib
from pathlib import Path

import cramjam

from engine.edge.state_dir import write_whole

logger = logging.getLogger(__name__)
MAGIC = b"TGSPOOL1"
HEAD = len(MAGIC) + 4
SUFFIX, GONE = ".events", ".gone"
FIRST = 1


class Spool:
    """The batches in ``folder``, together at most ``most_octets``. ``identity``: names this spool among all others."""

    def __init__(self, folder: Path, most_octets: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most_octets = folder, most_octets
        self.identity = self._identity()
        self._sizes = {int(path.stem): path.stat().st_size for path in sorted(folder.glob(f"*{SUFFIX}"))}
        self._next = max((int(path.stem) for path in folder.glob("[0-9]*.*")), default=0) + FIRST
        self.octets = sum(self._sizes.values())
        self.dropped_batches = 0

    def __len__(self) -> int:
        """How many batches wait."""
        return len(self._sizes)

    def append(self, lines: list[bytes]) -> None:
        """Write a batch; drops the oldest ones if there is no room. OSError if the disk refuses."""
        packed = bytes(cramjam.zstd.compress(b"\n".join(lines)))
        octets = MAGIC + zlib.crc32(packed).to_bytes(4, "little") + packed
        while self._sizes and self.octets + len(octets) > self._most_octets:
            self.remove(next(iter(self._sizes)))
            self.dropped_batches += 1
        number, self._next = self._next, self._next + 1
        write_whole(self._path(number), octets)
        self._sizes[number] = len(octets)
        self.octets += len(octets)

    def oldest(self) -> tuple[int, list[bytes]] | None:
        """Number and lines of the batch that waits longest; None if none does."""
        while self._sizes:
            number = next(iter(self._sizes))
            try:
                octets = self._path(number).read_bytes()
            except FileNotFoundError:
                self._forget(number)
                continue
            if (
                octets[: len(MAGIC)] == MAGIC
                and zlib.crc32(octets[HEAD:]).to_bytes(4, "little") == octets[len(MAGIC) : HEAD]
            ):
                return number, bytes(cramjam.zstd.decompress(octets[HEAD:])).split(b"\n")
            logger.warning("batch %d of the spool is damaged and set aside", number)
            self._path(number).replace(self._path(number).with_suffix(".bad"))
            self._forget(number)
            self.dropped_batches += 1
        return None

    def remove(self, number: int) -> None:
        """Kafka has it, or it is dropped. Its name stays until the next one is, so that no number is given twice."""
        former = list(self._folder.glob(f"*{GONE}"))
        with contextlib.suppress(FileNotFoundError):
            self._path(number).replace(self._path(number).with_suffix(GONE))
            for path in former:
                path.unlink(missing_ok=True)
        self._forget(number)

    def settle(self, durable: int) -> None:
        """All batches up to a number are in Kafka already; later ones get higher numbers."""
        for number in [number for number in self._sizes if number <= durable]:
            self.remove(number)
        self._next = max(self._next, durable + 1)

    def _forget(self, number: int) -> None:
        self.octets -= self._sizes.pop(number, 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}{SUFFIX}"

    def _identity(self) -> str:
        path = self._folder / "identity"
        if not path.exists():
            write_whole(path, secrets.token_hex(8).encode())
        return path.read_text(encoding="ascii")
