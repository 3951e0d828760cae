"""A changelog's records back into a partition, fetch by fetch in offset order. Pure: bytes in.

The first law needs a restored partition to go on exactly as the one that wrote the cut: rows are put back by key, the queue
of lapsing throttles is built again from them. A row that was evicted may still be found, as no tombstone is relied on: it
was kept until before the site's horizon, a live one wasn't. Records of the version before are read as well
(`engine.state.migrations`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import FREE_SHARE
from engine.detector.eviction import drop_rows, file_rows
from engine.detector.hash_table import SEED, place_rows
from engine.detector.layout import DIRTY, MOST_ROWS, ROW, STATE_VERSION, STORED, State, empty_state
from engine.detector.pool_table import restore_pools
from engine.state.partition import Partition
from engine.state.records import Fetch, Octets, StateRecords
from topics.changelog import DOOR_KIND, FLOOD_KIND, HEAD, POOL_KIND, ROW_KIND, SITE_KIND, BadState
from topics.columns.batches import RecordColumns
from topics.columns.rows import HEAD_SIZE, read_rows


class Restoration:
    """Puts the records of a changelog, fetch by fetch in offset order, into a fresh partition."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.rows = 0
        self.epoch = 0
        self._table = partition.state
        self._records = StateRecords()

    def add(self, octets: Octets, arena: Octets, records: RecordColumns) -> None:
        """Apply one fetch; `BadState` says which record is at fault."""
        fetch, keys, kinds, versions = self._records.check(Fetch(octets, arena, records))
        count = len(keys)
        edges = np.flatnonzero(np.diff(versions)) + 1
        for first, last in pairwise((0, *edges.tolist(), count)):  # a key's last record counts, whatever its version
            for kind in np.unique(kinds[first:last]).tolist():
                chosen = first + np.flatnonzero(kinds[first:last] == kind)
                some = fetch.some(chosen)
                if kind == ROW_KIND and versions[first] == STATE_VERSION:
                    self._place(keys[chosen], partial(self._copy_rows, some))
                else:
                    self._take(kind, keys[chosen], self._records.read(some, kind, int(versions[first])))
        if count:
            self.epoch = self._epoch_of(fetch, count - 1)

    @staticmethod
    def _epoch_of(fetch: Fetch, i: int) -> int:
        start, source = int(fetch.records.start[i]), fetch.arena if fetch.records.unpacked[i] else fetch.octets
        return int(HEAD.unpack(source[start : start + HEAD_SIZE].tobytes())[2])

    def _take(self, kind: int, keys: npt.NDArray[np.uint64], found: npt.NDArray[Any]) -> None:
        """Put records of one kind in place, in their order."""
        state = self.partition.state
        if kind == ROW_KIND:
            self._place(keys, partial(self._put_rows, found))
        elif kind == SITE_KIND:
            state.site[:] = found[-1:]
        elif kind == DOOR_KIND:
            state.door[:] = found[-1:]
        elif kind == FLOOD_KIND:
            state.flood[:] = found["prefixes"][-1]
        elif kind == POOL_KIND:
            restore_pools(state.pools, found)

    def _place(self, keys: npt.NDArray[np.uint64], put: Callable[[slice, npt.NDArray[np.int64]], None]) -> None:
        """Give each key a row; ``put`` fills those of a span of the keys, by their numbers."""
        first = 0
        while first < len(keys):
            numbers = np.empty(len(keys) - first, np.int64)
            placed = place_rows(self._table, keys[first:], SEED, numbers)
            put(slice(first, first + placed), numbers[:placed])
            first += placed
            if first < len(keys):
                self._make_room()
        self.rows += len(keys)

    def _copy_rows(self, fetch: Fetch, span: slice, numbers: npt.NDArray[np.int64]) -> None:
        rows = self._table.rows.view(np.uint8).reshape(len(self._table.rows), ROW.itemsize)
        read_rows(*fetch.some(span), numbers, rows)

    def _put_rows(self, found: npt.NDArray[Any], span: slice, numbers: npt.NDArray[np.int64]) -> None:
        self._table.rows[numbers] = found[span]  # of a key that comes twice, the later one

    def _make_room(self) -> None:
        """Drop what is dead by the horizon known so far, or go on in a table twice as large: the changelog may hold more
        keys than were ever alive together."""
        table, capacity = self._table, len(self._table.rows)
        horizon_ms = int(self.partition.state.site["horizon_ms"][0])
        if drop_rows(table, horizon_ms, np.zeros(1, ROW), SEED) >= capacity // FREE_SHARE:
            return
        if capacity == MOST_ROWS:
            raise BadState(f"partition {self.partition.number}: more than {capacity} keys in the changelog")
        self._table = empty_state(2 * capacity)
        self._fill(self._table, table)

    @staticmethod
    def _fill(into: State, table: State) -> None:
        count = int(table.cursor["rows"][0])
        into.rows[:count] = table.rows[:count]
        into.rows[count : int(into.cursor["rows"][0])] = 0
        into.cursor["rows"] = count
        file_rows(into, SEED)

    def finish(self) -> None:
        """All records are in: drop what is dead, and make the partition ready for events. More records may follow, once it
        has written all that it knows."""
        state, table = self.partition.state, self._table
        flags = table.rows["flags"][: int(table.cursor["rows"][0])]
        flags[:] = flags & ~np.uint16(DIRTY) | STORED
        table.cursor["gone"] = 0  # what was dropped on the way may have come back later on
        drop_rows(table, int(state.site["horizon_ms"][0]), np.zeros(1, ROW), SEED)
        if table is not state:
            if int(table.cursor["rows"][0]) > len(state.rows):
                raise BadState(
                    f"partition {self.partition.number} has more keys than its table holds ({len(state.rows)}): "
                    f"raise worker.rows_per_partition to {len(table.rows)}"
                )
            self._fill(state, table)
            gone = min(int(table.cursor["gone"][0]), len(state.gone))
            state.gone[:gone] = table.gone[:gone]
            state.cursor["gone"] = gone
            self._table = state
        ends = state.flood["until_ms"][state.flood["until_ms"] > 0]
        state.cursor["held"], state.cursor["held_ms"] = len(ends), ends.min(initial=np.iinfo(np.int64).max)
