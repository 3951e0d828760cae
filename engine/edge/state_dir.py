"""Files of the edge: its folder, owned by one process, and the snapshot in it, written whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path

from engine.edge.snapshot import BadSnapshot, Header, header_of, pack_chunk, pack_header, read_snapshot, restore, slices
from engine.edge.table import Table
from topics.errors import OperatorError

logger = logging.getLogger(__name__)


def write_whole(path: Path, octets: bytes) -> None:
    """Replace a file in one go: after a crash it is the old one or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class StateFolder:
    """``path`` is made if it isn't there. `OperatorError` if another process has it. ``saved_ms``: what the snapshot on disk is
    as of, 0 without one. Processes forked later have it too, and hold it until the last has ended; ``keeps``: whether this
    one writes the snapshot."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.keeps = path, True
        self.saved_ms = 0
        self._lock = (path / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(f"another edge uses {path}: give each its own edge.state_dir and edge.name") from None
        self._snapshot = path / "decisions.snapshot"

    def load(self, table: Table, oldest_ms: int) -> Header | None:
        """Fill an empty table from the snapshot, unless Kafka was last heard before ``oldest_ms``; None if it stays empty."""
        try:
            header, columns = read_snapshot(self._snapshot.read_bytes(), table.capacity)
        except FileNotFoundError:
            return None
        except (BadSnapshot, OSError) as error:
            logger.warning("the snapshot is not used: %s", error)
            return None
        if header.heard_ms < oldest_ms:
            logger.warning("the snapshot is not used: it is older than edge.stale_after_s")
            return None
        restore(table, header, columns)
        self.saved_ms = header.heard_ms
        return header

    async def save(self, table: Table, positions: dict[str, int], heard_ms: int) -> None:
        """Write a snapshot; look-ups go on between its chunks. A full disk is logged: the old one stays."""
        columns, rows = table.columns, len(table.columns.until_ms)
        chunks = [await asyncio.to_thread(pack_chunk, raw) for raw in slices(columns, rows)]
        if table.columns is not columns:
            return  # it was cleared meanwhile
        head = pack_header(header_of(table, positions, heard_ms, rows))
        try:
            await asyncio.to_thread(write_whole, self._snapshot, head + b"".join(chunks))
        except OSError as error:
            logger.warning("no snapshot was written: %s", error)
        else:
            self.saved_ms = heard_ms
