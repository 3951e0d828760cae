"""A partition's state as changelog records: one consistent cut, taken between two events. Pure: bytes out.

`engine.state.restore` is the way back. The first law needs a restored partition to go on exactly as the one that
wrote the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.expiry import take_dirty
from engine.detector.layout import STATE_VERSION
from engine.detector.pool_table import take_gone
from engine.state.partition import Partition
from topics.changelog import DOOR_KEY, DOOR_KIND, FLOOD_KEY, FLOOD_KIND, POOL_KIND, ROW_KIND, SITE_KEY, SITE_KIND
from topics.columns.batchwrite import field
from topics.columns.rows import HEAD_SIZE, RECORD_ROOM, write_rows, write_tombstones, write_whole

ROWS_A_BATCH = 4096  # 620 KB, below the broker's default for the largest batch


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
    state, cursor = partition.state, partition.state.cursor[0]
    numbers = np.empty(int(cursor["dirty"]), np.uint32)
    take_dirty(state, numbers)
    pools = np.empty(int(state.pools.cursor["dirty"][0]), np.uint32)
    take_dirty(state.pools, pools)
    sections = [
        *_tombstones(state.gone[: int(cursor["gone"])], ROW_KIND),
        *_tombstones(take_gone(state.pools), POOL_KIND),
        *_rows(state.rows, numbers, ROW_KIND, epoch),
        *_rows(state.pools.rows, pools, POOL_KIND, epoch),
        *([_whole(state.door, DOOR_KIND, DOOR_KEY, epoch)] if cursor["door_changed"] else []),
        *([_whole(state.flood, FLOOD_KIND, FLOOD_KEY, epoch)] if cursor["flood_changed"] else []),
        _whole(state.site, SITE_KIND, SITE_KEY, epoch),
    ]
    cursor["gone"] = cursor["door_changed"] = cursor["flood_changed"] = 0
    return Cut(sections, partition.applied_offset, len(numbers))


def _tombstones(keys: npt.NDArray[np.uint64], kind: int) -> Iterator[Section]:
    """Deletions of a table's rows; they come before rows, as a key may have come back."""
    out = np.empty(min(len(keys), ROWS_A_BATCH) * RECORD_ROOM, np.uint8)
    for first in range(0, len(keys), ROWS_A_BATCH):
        chosen = keys[first : first + ROWS_A_BATCH]
        yield Section(out[: write_tombstones(chosen, kind, out)].tobytes(), len(chosen))


def _rows(rows: npt.NDArray[Any], numbers: npt.NDArray[np.uint32], kind: int, epoch: int) -> Iterator[Section]:
    """Rows ``numbers`` of a table whose records are of ``kind``."""
    octets = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
    out = np.empty(min(len(numbers), ROWS_A_BATCH) * (rows.itemsize + RECORD_ROOM), np.uint8)
    for first in range(0, len(numbers), ROWS_A_BATCH):
        chosen = numbers[first : first + ROWS_A_BATCH]
        size = write_rows(octets, chosen, (kind, STATE_VERSION, epoch), out)
        yield Section(out[:size].tobytes(), len(chosen))


def _whole(whole: npt.NDArray[Any], kind: int, key: bytes, epoch: int) -> Section:
    """The one record of its kind."""
    value = np.empty(HEAD_SIZE + whole.nbytes, np.uint8)
    write_whole(whole.reshape(-1).view(np.uint8), (kind, STATE_VERSION, epoch), value)
    return Section(field(b"\0\0\0" + field(key) + field(value.tobytes()) + b"\0"), 1)
