"""A changelog's records back into a partition, fetch by fetch in offset order. Pure: bytes in.

The first law needs a restored partition to go on exactly as the one that wrote the cut: rows are put back by key, the queue
of lapsing throttles is built again from them. Records of the version before are read as well (`engine.models.versions`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.models.layout import STATE_VERSION
from engine.models.table import SEED, place_rows
from engine.models.versions import CURRENT, sizes, upgraded
from engine.policy.lapse import requeue
from engine.policy.partition import Partition
from topics.changelog import HEAD, ROW_KIND, SITE_KIND, BadState
from topics.columns.batches import RecordColumns
from topics.columns.rows import HEAD_SIZE, NEWER, OK, check_rows, read_rows

FAULTS = {
    1: "fails its CRC: the changelog is damaged; delete the topic to start from nothing, or restore it",
    2: "has another size than this version's: it was written by another program",
    NEWER: f"is of a later version than this one's ({STATE_VERSION}): run the newer version",
}
Octets = npt.NDArray[np.uint8]


class Restoration:
    """Puts the records of a changelog, fetch by fetch in offset order, into a fresh partition."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.rows = 0
        self.epoch = 0
        self._sizes = sizes()
        self._copy = np.empty(HEAD_SIZE + int(self._sizes.max()), np.uint8)

    def add(self, octets: Octets, arena: Octets, records: RecordColumns) -> None:
        """Apply one fetch; `BadState` says which record is at fault."""
        records = RecordColumns._make(column[records.length >= 0] for column in records)
        count = len(records.offset)
        keys = np.empty(count, np.uint64)
        kinds, versions = np.empty(count, np.uint8), np.empty(count, np.uint8)
        checked, fault = check_rows(octets, arena, records, self._sizes, (self._copy, keys, kinds, versions))
        if fault != OK:
            raise BadState(f"state record at offset {records.offset[checked]} {FAULTS[fault]}")
        edges = np.flatnonzero(np.diff(versions)) + 1
        for first, last in pairwise((0, *edges.tolist(), count)):  # a key's last record counts, whatever its version
            for kind in np.unique(kinds[first:last]).tolist():
                chosen = first + np.flatnonzero(kinds[first:last] == kind)
                some = RecordColumns._make(column[chosen] for column in records)
                self._take(kind, keys[chosen], self._read(octets, arena, some, kind, int(versions[first])))
        if count:
            self.epoch = self._epoch_of(octets, arena, records, count - 1)

    def _read(self, octets: Octets, arena: Octets, records: RecordColumns, kind: int, version: int) -> npt.NDArray[Any]:
        """The records of one kind and version, as this version has them."""
        count, size = len(records.offset), int(self._sizes[version, kind])
        found = np.empty((count, size), np.uint8)
        read_rows(octets, arena, records, np.arange(count), found)
        return found.view(CURRENT[kind]).reshape(count) if version == STATE_VERSION else upgraded(kind, found)

    @staticmethod
    def _epoch_of(octets: Octets, arena: Octets, records: RecordColumns, i: int) -> int:
        start, source = int(records.start[i]), arena if records.unpacked[i] else octets
        return int(HEAD.unpack(source[start : start + HEAD_SIZE].tobytes())[2])

    def _take(self, kind: int, keys: npt.NDArray[np.uint64], found: npt.NDArray[Any]) -> None:
        """Put records of one kind in place, in their order."""
        if kind == ROW_KIND:
            self._place(keys, found)
        elif kind == SITE_KIND:
            self.partition.state.site[:] = found[-1:]

    def _place(self, keys: npt.NDArray[np.uint64], found: npt.NDArray[Any]) -> None:
        placed = np.empty(len(keys), np.int64)
        if place_rows(self.partition.state, keys, SEED, placed) < len(keys):
            raise BadState(
                f"partition {self.partition.number} has more keys than its table holds "
                f"({len(self.partition.state.rows)}): raise worker.rows_per_partition"
            )
        self.partition.state.rows[placed] = found  # of a key that comes twice, the later one: NumPy assigns in order
        self.rows += len(keys)

    def finish(self) -> None:
        """All records are in: make the partition ready for events."""
        requeue(self.partition.state)
