"""Read the records of a changelog: check them, sort them by kind and version, convert them to this version. Pure: bytes in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.layout import STATE_VERSION
from engine.state.migrations import CURRENT, record_sizes, upgrade
from topics.changelog import BadState
from topics.columns.batches import RecordColumns
from topics.columns.rows import HEAD_SIZE, NEWER, OK, check_rows, read_rows

FAULTS = {
    1: "fails its CRC: the changelog is damaged; restore it, or delete the topic to start with no state",
    2: "has another size than this version's: another program wrote it",
    NEWER: f"is of a later version than this one's ({STATE_VERSION}): run the newer version",
}
ByteArray = npt.NDArray[np.uint8]


class StateFetch(NamedTuple):
    """The records of one fetch of a changelog."""

    fetched: ByteArray  # as fetched
    arena: ByteArray  # decompressed batches
    records: RecordColumns  # point into both

    def select(self, chosen: Any) -> StateFetch:
        """Return the records that an index chooses."""
        return self._replace(records=RecordColumns._make(column[chosen] for column in self.records))


class CheckedFetch(NamedTuple):
    """A fetch without its tombstones, and its records by column."""

    fetch: StateFetch
    keys: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.uint8]
    versions: npt.NDArray[np.uint8]


class StateRecords:
    """Reads the records of fetches, with one scratch buffer for the largest record."""

    def __init__(self) -> None:
        self._sizes = record_sizes()
        self._copy = np.empty(HEAD_SIZE + int(self._sizes.max()), np.uint8)

    def check(self, fetch: StateFetch) -> CheckedFetch:
        """Return keys, kinds and versions of the records. Raise `BadState` naming the first record that can't be read."""
        fetch = fetch.select(fetch.records.length >= 0)
        count = len(fetch.records.offset)
        keys = np.empty(count, np.uint64)
        kinds, versions = np.empty(count, np.uint8), np.empty(count, np.uint8)
        checked, fault = check_rows(*fetch, self._sizes, (self._copy, keys, kinds, versions))
        if fault != OK:
            raise BadState(f"state record at offset {fetch.records.offset[checked]} {FAULTS[fault]}")
        return CheckedFetch(fetch, keys, kinds, versions)

    def read(self, fetch: StateFetch, kind: int, version: int) -> npt.NDArray[Any]:
        """Return records of one kind and version as current records."""
        count, size = len(fetch.records.offset), int(self._sizes[version, kind])
        raw = np.empty((count, size), np.uint8)
        read_rows(*fetch, np.arange(count), raw)
        return raw.view(CURRENT[kind]).reshape(count) if version == STATE_VERSION else upgrade(kind, raw)
