"""A partition's state as changelog records: one consistent cut between two events. Pure: returns bytes.

`engine.state.restore` is the inverse. By the first law, a restored partition continues exactly as the one that wrote the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.expiry import drain_dirty
from engine.detector.layout import STATE_VERSION
from engine.detector.pool_table import drain_tombstones
from engine.state.partition import Partition
from topics.changelog import FILTER_KEY, FILTER_KIND, POOL_KIND, PREFIX_KEY, PREFIX_KIND, ROW_KIND, SITE_KEY, SITE_KIND
from topics.columns.batchwrite import field
from topics.columns.rows import HEAD_SIZE, RECORD_ROOM, write_rows, write_tombstones, write_whole

ROWS_A_BATCH = 4096  # 620 KB, below the broker's default for the largest batch


@dataclass(frozen=True, slots=True)
class Section:
    """The records section of one record batch."""

    records: bytes  # uncompressed
    count: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A consistent cut: all changes since the last one."""

    sections: list[Section]
    applied_offset: int  # last source offset that it includes
    rows: int  # changed rows of senders


def cut_state(partition: Partition, epoch: int) -> Cut:
    """Return the changes since the last cut and count them as stored. `epoch` changes with every restart of the writer."""
    state, cursor = partition.state, partition.state.cursor[0]
    numbers = np.empty(int(cursor["dirty"]), np.uint32)
    drain_dirty(state, numbers)
    pools = np.empty(int(state.pools.cursor["dirty"][0]), np.uint32)
    drain_dirty(state.pools, pools)
    sections = [
        *_tombstones(state.tombstones[: int(cursor["tombstones"])], ROW_KIND),
        *_tombstones(drain_tombstones(state.pools), POOL_KIND),
        *_rows(state.rows, numbers, ROW_KIND, epoch),
        *_rows(state.pools.rows, pools, POOL_KIND, epoch),
        *([_whole(state.admission_filter, FILTER_KIND, FILTER_KEY, epoch)] if cursor["filter_changed"] else []),
        *([_whole(state.prefixes, PREFIX_KIND, PREFIX_KEY, epoch)] if cursor["prefixes_changed"] else []),
        _whole(state.site, SITE_KIND, SITE_KEY, epoch),
    ]
    cursor["tombstones"] = cursor["filter_changed"] = cursor["prefixes_changed"] = 0
    return Cut(sections, partition.applied_offset, len(numbers))


def _tombstones(keys: npt.NDArray[np.uint64], kind: int) -> Iterator[Section]:
    """Yield deletions of a table's rows. They precede rows, because an evicted sender may have returned."""
    out = np.empty(min(len(keys), ROWS_A_BATCH) * RECORD_ROOM, np.uint8)
    for first in range(0, len(keys), ROWS_A_BATCH):
        chosen = keys[first : first + ROWS_A_BATCH]
        yield Section(out[: write_tombstones(chosen, kind, out)].tobytes(), len(chosen))


def _rows(rows: npt.NDArray[Any], numbers: npt.NDArray[np.uint32], kind: int, epoch: int) -> Iterator[Section]:
    """Yield the rows `numbers` of a table whose records are of `kind`."""
    table = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
    out = np.empty(min(len(numbers), ROWS_A_BATCH) * (rows.itemsize + RECORD_ROOM), np.uint8)
    for first in range(0, len(numbers), ROWS_A_BATCH):
        chosen = numbers[first : first + ROWS_A_BATCH]
        size = write_rows(table, chosen, (kind, STATE_VERSION, epoch), out)
        yield Section(out[:size].tobytes(), len(chosen))


def _whole(whole: npt.NDArray[Any], kind: int, key: bytes, epoch: int) -> Section:
    """Return the only record of its kind."""
    value = np.empty(HEAD_SIZE + whole.nbytes, np.uint8)
    write_whole(whole.reshape(-1).view(np.uint8), (kind, STATE_VERSION, epoch), value)
    return Section(field(b"\0\0\0" + field(key) + field(value.tobytes()) + b"\0"), 1)
