"""A changelog's records read: checked, sorted by kind and version, as this version has them. Pure: bytes in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.layout import STATE_VERSION
from engine.state.migrations import CURRENT, sizes, upgraded
from topics.changelog import BadState
from topics.columns.batches import RecordColumns
from topics.columns.rows import HEAD_SIZE, NEWER, OK, check_rows, read_rows

FAULTS = {
    1: "fails its CRC: the changelog is damaged; delete the topic to start from nothing, or restore it",
    2: "has another size than this version's: it was written by another program",
    NEWER: f"is of a later version than this one's ({STATE_VERSION}): run the newer version",
}
Octets = npt.NDArray[np.uint8]


class Fetch(NamedTuple):
    """The records of one fetch; ``records`` point into ``octets`` (as fetched) and ``arena`` (decompressed)."""

    octets: Octets
    arena: Octets
    records: RecordColumns

    def some(self, chosen: Any) -> Fetch:
        """Those that an index chooses."""
        return self._replace(records=RecordColumns._make(column[chosen] for column in self.records))


class Checked(NamedTuple):
    """A fetch without its tombstones, and by record: its row's ``keys``, ``kinds`` and ``versions``."""

    fetch: Fetch
    keys: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.uint8]
    versions: npt.NDArray[np.uint8]


class StateRecords:
    """Reads records; room for the largest kept from fetch to fetch."""

    def __init__(self) -> None:
        self._sizes = sizes()
        self._copy = np.empty(HEAD_SIZE + int(self._sizes.max()), np.uint8)

    def check(self, fetch: Fetch) -> Checked:
        """What the records are; `BadState` says which one is at fault."""
        fetch = fetch.some(fetch.records.length >= 0)
        count = len(fetch.records.offset)
        keys = np.empty(count, np.uint64)
        kinds, versions = np.empty(count, np.uint8), np.empty(count, np.uint8)
        checked, fault = check_rows(*fetch, self._sizes, (self._copy, keys, kinds, versions))
        if fault != OK:
            raise BadState(f"state record at offset {fetch.records.offset[checked]} {FAULTS[fault]}")
        return Checked(fetch, keys, kinds, versions)

    def read(self, fetch: Fetch, kind: int, version: int) -> npt.NDArray[Any]:
        """Records of one kind and version, as this version has them."""
        count, size = len(fetch.records.offset), int(self._sizes[version, kind])
        found = np.empty((count, size), np.uint8)
        read_rows(*fetch, np.arange(count), found)
        return found.view(CURRENT[kind]).reshape(count) if version == STATE_VERSION else upgraded(kind, found)
