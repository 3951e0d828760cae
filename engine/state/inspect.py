"""A sender's counters, baseline and limits at a time between two events, as its next event would find them.

For explanations and charts; no decision depends on it. It works on copies, so the partition doesn't change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.baseline import close_day
from engine.detector.constants import DAY_MS, SCALES
from engine.detector.counters import count_event
from engine.detector.hash_table import SEED, find, hash_key
from engine.detector.limits import limit
from engine.state.partition import Partition
from topics.columns.jit import kernel
from topics.columns.scan import DEFERRED

STANDING = np.dtype(
    [
        ("counter", "f8", (SCALES,)),
        ("limit", "f8", (SCALES,)),
        ("memory", "f8", (SCALES,)),  # baseline
        ("active_days", "i8"),
    ],
    align=True,
)


@kernel
def project(state: Any, t_ms: int, threshold: float, standing: Any) -> None:
    """Bring the first row to `t_ms` (close its day if that is over, decay its counters) and write its STANDING."""
    row, site, out = state.rows[0], state.site[0], standing[0]
    today = t_ms // DAY_MS
    if today > row.day:
        close_day(row, site, today)
    count_event(row, t_ms, 0, DEFERRED)
    out.active_days = row.active_days
    for s in range(SCALES):
        out.counter[s] = row.counter[s]
        out.memory[s] = row.memory[s]
        out.limit[s] = limit(row, site, s, threshold)


@kernel
def _look_up(state: Any, key: Any, seed: Any) -> int:
    return find(state, key, hash_key(key, seed))


def row_of(partition: Partition, key: int) -> int:
    """Return the number of a key's row, NO_ROW if it has none."""
    return _look_up(partition.state, np.uint64(key), SEED)


def standing(partition: Partition, number: int, t_ms: int) -> npt.NDArray[Any]:
    """Return the STANDING[1] of row `number` at `t_ms`, not before its last event."""
    out, state = np.zeros(1, STANDING), partition.state
    alone = state._replace(rows=state.rows[number : number + 1].copy(), site=state.site.copy())
    project(alone, t_ms, partition.threshold, out)
    return out
