"""State formats by version: the layout of each kind of record, and how records of the version before become current ones.

Version N reads N - 1, so a worker can be replaced by its successor with its state in place. Going back needs the changelog of
before. Layouts of earlier versions are frozen here; their fields have the current names. Kinds: `topics.changelog`.

    1  ROW, SITE. An expired throttle's `until_ms` was 0; no row was ever evicted.
    2  FILTER, PREFIX_TABLE and POOL added. `until_ms` stays when a throttle expires, and THROTTLED is set while it is active.
       Two fast scales, the bucket's tokens, deferred messages; a site's budget and learning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import DAY_MS, WEIGHT_UNITS
from engine.detector.layout import FILTER, POOL, PREFIX_TABLE, ROW, SITE, STATE_VERSION, THROTTLED, empty_site
from engine.detector.pools import open_site_pools
from topics.changelog import FILTER_KIND, KINDS, POOL_KIND, PREFIX_KIND, ROW_KIND, SITE_KIND

ROW_1 = np.dtype(
    [
        ("key", "u8"),
        ("last_ms", "i8"),
        ("until_ms", "i8"),
        ("first_seen_s", "u4"),
        ("day", "i4"),
        ("counter", "f4", (3,)),
        ("peak", "f4", (3,)),
        ("memory", "f4", (3,)),
        ("typical", "f4"),
        ("weight", "f4"),
        ("rate_per_h", "f4"),
        ("burst", "f4"),
        ("active_days", "u2"),
        ("accepted", "u2"),
        ("rejected", "u2"),
        ("flags", "u2"),
        ("bin", "u1", (3,)),
        ("pool", "u1"),
        ("spare", "u1", (24,)),
    ],
    align=True,
)
SITE_1 = np.dtype(
    [
        ("applied_offset", "i8"),
        ("clock_ms", "i8"),
        ("first_ms", "i8"),
        ("cohort_hist", "f8", (3, 96)),
        ("cohort_q90", "f8", (3,)),
        ("cohort_limit", "f8", (3,)),
        ("cohort_q50", "f8"),
        ("cohort_neighbours", "f4", (1024,)),
        ("cohort_neighbours_ms", "i8", (1024,)),
        ("cohort_new_keys", "i8"),
        ("cohort_since_halving", "i8"),
        ("events", "i8"),
        ("late", "i8"),
        ("poison", "i8"),
        ("throttles", "i8"),
        ("releases", "i8"),
        ("untracked", "i8"),
        ("miskeyed", "i8"),
    ],
    align=True,
)
SCALES_1 = 3  # hour, six hours, day: still the first three
COUNTED_1 = 1  # the only flag of version 1 that is still read

Records = npt.NDArray[Any]


def _carried(old: Records, new: Records) -> Records:
    """Return `new` with the fields that both have with equal types copied from `old`."""
    for name in set(new.dtype.names or ()) & set(old.dtype.names or ()):
        if new.dtype[name] == old.dtype[name]:
            new[name] = old[name]
    return new


def _row_of_1(old: Records) -> Records:
    """Return rows of version 1 as current rows."""
    new = _carried(old, np.zeros(len(old), ROW))
    active = np.where(old["until_ms"] > 0, THROTTLED, 0).astype(np.uint16)
    new["flags"] = old["flags"] & COUNTED_1 | active
    for name in ("counter", "peak", "memory"):
        new[name][:, :SCALES_1] = old[name]
    new["weight"] = old["weight"] * WEIGHT_UNITS
    new["tokens"] = np.where(active, old["burst"], 0)
    return new


def _site_of_1(old: Records) -> Records:
    """Return sites of version 1 as current sites: they continue to decide, with the cohort that they have learned."""
    new = _carried(old, np.repeat(empty_site(), len(old)))
    open_site_pools(new)
    new["day"] = new["decides_from"] = old["clock_ms"] // DAY_MS
    new["cohort_rescaled_s"] = np.maximum(1, old["first_ms"] // 1000)
    return new


CURRENT = {ROW_KIND: ROW, SITE_KIND: SITE, FILTER_KIND: FILTER, PREFIX_KIND: PREFIX_TABLE, POOL_KIND: POOL}
EARLIER: dict[int, tuple[np.dtype[Any], Callable[[Records], Records]]] = {
    ROW_KIND: (ROW_1, _row_of_1),
    SITE_KIND: (SITE_1, _site_of_1),
}


def record_sizes() -> npt.NDArray[np.int64]:
    """Return the bytes of a record as [version, kind]; -1 for versions and kinds that can't be read."""
    sizes = np.full((STATE_VERSION + 1, KINDS), -1, np.int64)
    for version, kinds in ((STATE_VERSION - 1, {k: old for k, (old, _) in EARLIER.items()}), (STATE_VERSION, CURRENT)):
        for kind, dtype in kinds.items():
            sizes[version, kind] = dtype.itemsize
    return sizes


def upgrade(kind: int, records: npt.NDArray[np.uint8]) -> Records:
    """Return records of the version before this one (uint8[n, size]) as current records."""
    dtype, convert = EARLIER[kind]
    return convert(records.view(dtype).reshape(len(records)))
