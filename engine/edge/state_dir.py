"""The edge's folder, locked by one edge, and the snapshot in it, which is replaced atomically."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
from pathlib import Path

from engine.edge.snapshot import (
    BadSnapshot,
    SnapshotHeader,
    build_header,
    iter_chunks,
    pack_chunk,
    pack_header,
    read_snapshot,
    restore_table,
)
from engine.edge.table import DecisionTable
from topics.errors import OperatorError

logger = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file; after a crash it has the old content or the new one.

    `durable` waits until the disk has it. A file that is written again every second doesn't need that.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # left by a crash, or planted: a link here would make us overwrite another file
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)


def make_private(path: Path) -> None:
    """Create a folder with mode 0700 if it is missing. Raises `OperatorError` if other users may write to it.

    It names senders and Kafka positions, and files in it are trusted.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & stat.S_IWOTH:
        raise OperatorError(
            f"{path} belongs to another user or is writable by all: give edge.state_dir a private folder"
        )


class StateDir:
    """A folder for one edge; created if it is missing. Raises `OperatorError` if another edge has locked it.

    Processes forked later share the lock, which ends with the last of them.
    """

    def __init__(self, path: Path) -> None:
        make_private(path)
        self.path = path
        self.saves_snapshot = True
        self.saved_ms = 0  # `caught_up_ms` of the snapshot on disk; 0 without a snapshot
        self._lock = (path / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(f"another edge uses {path}: give each its own edge.state_dir and edge.name") from None
        self._snapshot = path / "decisions.snapshot"

    def process_path(self, number: int) -> Path:
        """Return the folder of one process; the first process uses the edge's own folder."""
        return self.path if number == 1 else self.path / f"process-{number}"

    def leave_snapshot(self) -> None:
        """Let another process save the snapshot."""
        self.saves_snapshot = False

    def load(self, table: DecisionTable, oldest_ms: int) -> SnapshotHeader | None:
        """Fill an empty table from the snapshot.

        Returns None, with the table still empty, if there is no valid snapshot or its topics were last read to the end
        before `oldest_ms`.
        """
        try:
            header, columns = read_snapshot(self._snapshot.read_bytes(), table.capacity)
        except FileNotFoundError:
            return None
        except (BadSnapshot, OSError) as error:
            logger.warning("the snapshot is not used: %s", error)
            return None
        if header.caught_up_ms < oldest_ms:
            logger.warning("the snapshot is not used: it is older than edge.stale_after_s")
            return None
        restore_table(table, header, columns)
        self.saved_ms = header.caught_up_ms
        return header

    async def save(self, table: DecisionTable, positions: dict[str, int], caught_up_ms: int) -> None:
        """Write a snapshot; look-ups go on between its chunks. If the disk is full, it is logged and the old one remains."""
        columns, rows = table.columns, len(table.columns.until_ms)
        chunks = [await asyncio.to_thread(pack_chunk, raw) for raw in iter_chunks(columns, rows)]
        if table.columns is not columns:
            return  # cleared meanwhile
        head = pack_header(build_header(table, positions, caught_up_ms, rows))
        try:
            await asyncio.to_thread(write_atomically, self._snapshot, head + b"".join(chunks))
        except OSError as error:
            logger.warning("no snapshot was written: %s", error)
        else:
            self.saved_ms = caught_up_ms
