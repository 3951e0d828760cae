"""Restore a partition from a changelog, fetch by fetch in offset order. Pure: bytes in.

By the first law a restored partition continues exactly as the one that wrote the changelog: rows are restored by key, and the
expiry queue is rebuilt from them. An evicted row may still be in the changelog, as a restore doesn't rely on tombstones. Every
version of it was retained until before the site's horizon, so the restore discards it. Records of the version before are read
as well (`engine.state.migrations`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import FREE_SHARE
from engine.detector.eviction import evict_rows, rebuild_indexes
from engine.detector.hash_table import SEED, find_or_insert
from engine.detector.layout import DIRTY, MOST_ROWS, ROW, STATE_VERSION, STORED, State, empty_state
from engine.detector.pool_table import restore_pools
from engine.state.partition import Partition
from engine.state.records import ByteArray, StateFetch, StateRecords
from topics.changelog import FILTER_KIND, HEAD, POOL_KIND, PREFIX_KIND, ROW_KIND, SITE_KIND, BadState
from topics.columns.batches import RecordColumns
from topics.columns.rows import HEAD_SIZE, read_rows


class Restoration:
    """Applies the records of a changelog to an empty partition: `add` each fetch in offset order, then `finish`.

    More records may be added afterwards, if the partition's own changes have all been written.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.rows = 0  # records of senders' rows so far
        self.epoch = 0  # of the last record
        self._table = partition.state  # or a larger one, while the changelog has more keys than that holds
        self._records = StateRecords()

    def add(self, fetched: ByteArray, arena: ByteArray, records: RecordColumns) -> None:
        """Apply one fetch. Raise `BadState` naming the record that can't be read."""
        fetch, keys, kinds, versions = self._records.check(StateFetch(fetched, arena, records))
        count = len(keys)
        edges = np.flatnonzero(np.diff(versions)) + 1
        for first, last in pairwise((0, *edges.tolist(), count)):  # a key's last record counts, whatever its version
            for kind in np.unique(kinds[first:last]).tolist():
                chosen = first + np.flatnonzero(kinds[first:last] == kind)
                selected = fetch.select(chosen)
                if kind == ROW_KIND and versions[first] == STATE_VERSION:
                    self._store_rows(keys[chosen], partial(self._copy_rows, selected))
                else:
                    self._store(kind, keys[chosen], self._records.read(selected, kind, int(versions[first])))
        if count:
            self.epoch = self._epoch_of(fetch, count - 1)

    @staticmethod
    def _epoch_of(fetch: StateFetch, i: int) -> int:
        start, source = int(fetch.records.start[i]), fetch.arena if fetch.records.unpacked[i] else fetch.fetched
        return int(HEAD.unpack(source[start : start + HEAD_SIZE].tobytes())[2])

    def _store(self, kind: int, keys: npt.NDArray[np.uint64], records: npt.NDArray[Any]) -> None:
        """Store records of one kind, in their order."""
        state = self.partition.state
        if kind == ROW_KIND:
            self._store_rows(keys, partial(self._put_rows, records))
        elif kind == SITE_KIND:
            state.site[:] = records[-1:]
        elif kind == FILTER_KIND:
            state.admission_filter[:] = records[-1:]
        elif kind == PREFIX_KIND:
            state.prefixes[:] = records["prefixes"][-1]
        elif kind == POOL_KIND:
            restore_pools(state.pools, records)

    def _store_rows(self, keys: npt.NDArray[np.uint64], put: Callable[[slice, npt.NDArray[np.int64]], None]) -> None:
        """Assign each key a row. `put` fills the rows of a slice of the keys, given their numbers."""
        first = 0
        while first < len(keys):
            numbers = np.empty(len(keys) - first, np.int64)
            stored = find_or_insert(self._table, keys[first:], SEED, numbers)
            put(slice(first, first + stored), numbers[:stored])
            first += stored
            if first < len(keys):
                self._make_room()
        self.rows += len(keys)

    def _copy_rows(self, fetch: StateFetch, span: slice, numbers: npt.NDArray[np.int64]) -> None:
        rows = self._table.rows.view(np.uint8).reshape(len(self._table.rows), ROW.itemsize)
        read_rows(*fetch.select(span), numbers, rows)

    def _put_rows(self, records: npt.NDArray[Any], span: slice, numbers: npt.NDArray[np.int64]) -> None:
        self._table.rows[numbers] = records[span]  # the later one of a key that occurs twice

    def _make_room(self) -> None:
        """Drop the rows that the horizon known so far evicts, or continue in a table twice as large.

        The changelog may hold more keys than were ever alive together.
        """
        table, capacity = self._table, len(self._table.rows)
        horizon_ms = int(self.partition.state.site["eviction_horizon_ms"][0])
        if evict_rows(table, horizon_ms, np.zeros(1, ROW), SEED) >= capacity // FREE_SHARE:
            return
        if capacity == MOST_ROWS:
            raise BadState(f"partition {self.partition.number}: more than {capacity} keys in the changelog")
        self._table = empty_state(2 * capacity)
        self._fill(self._table, table)

    @staticmethod
    def _fill(into: State, table: State) -> None:
        """Copy a table's rows into another one."""
        count = int(table.cursor["rows"][0])
        into.rows[:count] = table.rows[:count]
        into.rows[count : int(into.cursor["rows"][0])] = 0
        into.cursor["rows"] = count
        rebuild_indexes(into, SEED)

    def finish(self) -> None:
        """Drop evicted rows and make the partition ready for events."""
        state, table = self.partition.state, self._table
        flags = table.rows["flags"][: int(table.cursor["rows"][0])]
        flags[:] = flags & ~np.uint16(DIRTY) | STORED
        table.cursor["tombstones"] = 0  # a row dropped by _make_room may have returned later
        evict_rows(table, int(state.site["eviction_horizon_ms"][0]), np.zeros(1, ROW), SEED)
        if table is not state:
            if int(table.cursor["rows"][0]) > len(state.rows):
                raise BadState(
                    f"partition {self.partition.number} has more keys than its table holds ({len(state.rows)}): "
                    f"raise worker.rows_per_partition to {len(table.rows)}"
                )
            self._fill(state, table)
            tombstones = min(int(table.cursor["tombstones"][0]), len(state.tombstones))
            state.tombstones[:tombstones] = table.tombstones[:tombstones]
            state.cursor["tombstones"] = tombstones
            self._table = state
        ends_ms = state.prefixes["until_ms"][state.prefixes["until_ms"] > 0]
        state.cursor["throttled_prefixes"] = len(ends_ms)
        state.cursor["prefix_expiry_ms"] = ends_ms.min(initial=np.iinfo(np.int64).max)
