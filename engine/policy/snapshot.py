"""A partition's state as changelog records, and back: one consistent cut, taken between two events.

Pure: bytes in, bytes out. The first law needs a restored partition to go on exactly as the one that wrote the cut: rows
are put back by key, the queue of lapsing throttles is built again from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.models.layout import ROW, SITE, STATE_VERSION
from engine.models.table import SEED, place_rows
from engine.policy.lapse import requeue, take_dirty
from engine.policy.partition import Partition
from topics.changelog import HEAD, SITE_KEY, SITE_KIND, BadState
from topics.columns.batches import RecordColumns
from topics.columns.batchwrite import field
from topics.columns.rows import (
    HEAD_SIZE,
    NEWER,
    OK,
    RECORD_ROOM,
    check_rows,
    read_rows,
    write_rows,
    write_site,
)

ROWS_A_BATCH = 4096  # 620 KB, below the broker's default for the largest batch
FAULTS = {
    1: "fails its CRC: the changelog is damaged; delete the topic to start from nothing, or restore it",
    2: "has another size than this version's: it was written by another program",
    NEWER: f"is of a later version than this one's ({STATE_VERSION}): run the newer version",
}


@dataclass(frozen=True, slots=True)
class Section:
    """The records section of one batch, uncompressed, and the number of its records."""

    octets: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A consistent cut: everything that changed since the last one, and the source offset it stands for."""

    sections: list[Section]
    applied_offset: int
    rows: int


def take_cut(partition: Partition, epoch: int) -> Cut:
    """Take the changed rows and the site as of now; the rows count as unchanged from here on."""
    state = partition.state
    numbers = np.empty(partition.dirty, np.uint32)
    take_dirty(state, numbers)
    octets, stamp = state.rows.view(np.uint8).reshape(len(state.rows), ROW.itemsize), (STATE_VERSION, epoch)
    out = np.empty(ROWS_A_BATCH * (ROW.itemsize + RECORD_ROOM), np.uint8)
    sections = []
    for first in range(0, len(numbers), ROWS_A_BATCH):
        chosen = numbers[first : first + ROWS_A_BATCH]
        size = write_rows(octets, chosen, stamp, out)
        sections.append(Section(out[:size].tobytes(), len(chosen)))
    sections.append(Section(_site_record(state.site, stamp), 1))
    return Cut(sections, partition.applied_offset, len(numbers))


def _site_record(site: npt.NDArray[Any], stamp: tuple[int, int]) -> bytes:
    value = np.empty(HEAD_SIZE + SITE.itemsize, np.uint8)
    write_site(site.view(np.uint8), stamp, value)
    body = b"\0\0\0" + field(SITE_KEY) + field(value.tobytes()) + b"\0"
    return field(body)


class Restoration:
    """Puts the records of a changelog, fetch by fetch in offset order, into a fresh partition."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.rows = 0
        self.epoch = 0
        self._octets = partition.state.rows.view(np.uint8).reshape(len(partition.state.rows), ROW.itemsize)

    def add(self, octets: npt.NDArray[np.uint8], arena: npt.NDArray[np.uint8], records: RecordColumns) -> None:
        """Apply one fetch; `BadState` says which record is at fault."""
        records = RecordColumns._make(column[records.length >= 0] for column in records)
        count = len(records.offset)
        keys, kinds = np.empty(count, np.uint64), np.empty(count, np.uint8)
        scratch = (np.empty(max(ROW.itemsize, SITE.itemsize) + HEAD_SIZE, np.uint8), keys, kinds)
        expected = (count, ROW.itemsize, SITE.itemsize, STATE_VERSION)
        checked, fault = check_rows(octets, arena, records, expected, scratch)
        if fault != OK:
            raise BadState(f"state record at offset {records.offset[checked]} {FAULTS[fault]}")
        row_records = np.flatnonzero(kinds != SITE_KIND)
        numbers = np.full(count, -1, np.int64)
        placed = np.empty(len(row_records), np.int64)
        if place_rows(self.partition.state, keys[row_records], SEED, placed) < len(row_records):
            raise BadState(
                f"partition {self.partition.number} has more keys than its table holds "
                f"({len(self.partition.state.rows)}): raise worker.rows_per_partition"
            )
        numbers[row_records] = placed
        read_rows(octets, arena, records, numbers, self._octets)
        self.rows += len(row_records)
        for i in np.flatnonzero(kinds == SITE_KIND)[-1:]:
            source = arena if records.unpacked[i] else octets
            value = source[records.start[i] : records.start[i] + records.length[i]].tobytes()
            self.epoch = int(HEAD.unpack_from(value)[2])
            self.partition.state.site[:] = np.frombuffer(value, SITE, 1, HEAD_SIZE)

    def finish(self) -> None:
        """All records are in: make the partition ready for events."""
        requeue(self.partition.state)
