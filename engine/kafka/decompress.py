"""A block's batches, decompressed: the buffers that kernels read from, reused from block to block."""

from __future__ import annotations

import numpy as np

from engine.kafka.blocks import Block
from topics.columns.batches import BATCH, MIN_RECORD_BYTES, unpack
from topics.columns.scan import EventColumns, empty_columns

ARENA_BYTES = 4 << 20
MIN_EVENTS = 1 << 14


class Unpacked:
    """Views of a block for the kernels. Damaged or oversized batches are marked unsound in ``batches``."""

    def __init__(self, block: Block, arena: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None) -> None:
        self.block = block
        self.raw = np.frombuffer(block.raw, np.uint8)  # as fetched
        self.batches = np.array(block.batches, BATCH)  # a copy that points into `raw` and `arena`
        room = np.empty(ARENA_BYTES, np.uint8) if arena is None else arena
        self.room = unpack(block.raw, self.batches, room)
        self.arena = self.room.view()  # decompressed
        self.arena.flags.writeable = False

    @property
    def max_records(self) -> int:
        """An upper bound on the readable records, whatever the batches claim."""
        sizes = (self.batches["end"] - self.batches["start"]) // MIN_RECORD_BYTES
        return int(np.minimum(sizes, self.batches["records"].clip(0))[self.batches["skip"] == 0].sum())

    def value(self, columns: EventColumns, i: int) -> bytes:
        """Return the value of record ``i``, empty for a null."""
        source = self.arena if columns.unpacked[i] else self.raw
        return source[columns.start[i] : columns.start[i] + max(int(columns.length[i]), 0)].tobytes()


class Workspace:
    """An arena and columns for one block at a time. They grow to the largest block so far, within the limits of blocks."""

    def __init__(self) -> None:
        self._arena = np.empty(ARENA_BYTES, np.uint8)
        self._columns = empty_columns(MIN_EVENTS)

    def unpack(self, block: Block) -> tuple[Unpacked, EventColumns]:
        """Return the block's buffers, and columns with room for all its records. Overwrites those of the previous block."""
        unpacked = Unpacked(block, self._arena)
        self._arena = unpacked.room
        if len(self._columns.offset) < unpacked.max_records:
            self._columns = empty_columns(1 << unpacked.max_records.bit_length())
        return unpacked, self._columns
