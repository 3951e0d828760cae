"""A block's batches, decompressed: the buffers that kernels read from, reused from block to block."""

from __future__ import annotations

import numpy as np

from engine.kafka.blocks import Block
from topics.columns.batches import BATCH, SMALLEST_RECORD, unpack
from topics.columns.scan import EventColumns, empty_columns

ARENA_OCTETS = 4 << 20
LEAST_EVENTS = 1 << 14


class Unpacked:
    """Views for the kernels: ``octets`` (as fetched), ``arena`` (decompressed), ``batches`` (a copy that points into
    both). Damaged or oversized batches are marked unsound in it."""

    def __init__(self, block: Block, arena: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None) -> None:
        self.block = block
        self.octets = np.frombuffer(block.octets, np.uint8)
        self.batches = np.array(block.batches, BATCH)
        room = np.empty(ARENA_OCTETS, np.uint8) if arena is None else arena
        self.room = unpack(block.octets, self.batches, room)
        self.arena = self.room.view()
        self.arena.flags.writeable = False

    @property
    def most_records(self) -> int:
        """An upper bound on the records that can be read, whatever the batches claim."""
        sizes = (self.batches["end"] - self.batches["start"]) // SMALLEST_RECORD
        return int(np.minimum(sizes, self.batches["records"].clip(0))[self.batches["skip"] == 0].sum())

    def value(self, columns: EventColumns, i: int) -> bytes:
        """The value of record ``i``, empty for a null."""
        source = self.arena if columns.unpacked[i] else self.octets
        return source[columns.start[i] : columns.start[i] + max(int(columns.length[i]), 0)].tobytes()


class Workspace:
    """An arena and columns that grow to the largest block they have held, within the blocks' own limits."""

    def __init__(self) -> None:
        self._arena = np.empty(ARENA_OCTETS, np.uint8)
        self._columns = empty_columns(LEAST_EVENTS)

    def unpack(self, block: Block) -> tuple[Unpacked, EventColumns]:
        """The block's buffers, and columns with room for all its records."""
        unpacked = Unpacked(block, self._arena)
        self._arena = unpacked.room
        if len(self._columns.offset) < unpacked.most_records:
            self._columns = empty_columns(1 << unpacked.most_records.bit_length())
        return unpacked, self._columns
