"""State formats: the octets of each kind of record by version, and how an earlier version's become this one's.

Version N reads N - 1, so a worker can be replaced by its successor with its state in place; going back needs the changelog
of before. What an earlier version wrote is frozen here, as it was. Kinds: `topics.changelog`.

    1  ROW, SITE. A lapsed throttle's ``until_ms`` was 0; no row was ever evicted.
    2  DOOR, FLOOD and POOL too. ``until_ms`` stays when a throttle lapses: WAITING says whether one is live. Two fast scales,
       the bucket's tokens, what is held back; a site's budget and learning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import DAY_MS, WEIGHT_UNITS
from engine.detector.layout import DOOR, FLOOD, POOL, ROW, SITE, STATE_VERSION, WAITING, empty_site
from engine.detector.pools import open_pools
from topics.changelog import DOOR_KIND, FLOOD_KIND, KINDS, POOL_KIND, ROW_KIND, SITE_KIND

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
        ("hist", "f8", (3, 96)),
        ("q90", "f8", (3,)),
        ("limit", "f8", (3,)),
        ("q50", "f8"),
        ("neighbours", "f4", (1024,)),
        ("neighbours_ms", "i8", (1024,)),
        ("new_keys", "i8"),
        ("since_halving", "i8"),
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
SCALES_1 = 3  # hour, six hours, day: the first three still
COUNTED_1 = 1  # the one flag of version 1 that says what is known of a row, not how it was filed

Records = npt.NDArray[Any]


def _carried(old: Records, new: Records) -> Records:
    """``new`` with all fields that both have alike as they are in ``old``."""
    for name in set(new.dtype.names or ()) & set(old.dtype.names or ()):
        if new.dtype[name] == old.dtype[name]:
            new[name] = old[name]
    return new


def _row_of_1(old: Records) -> Records:
    new = _carried(old, np.zeros(len(old), ROW))
    live = np.where(old["until_ms"] > 0, WAITING, 0).astype(np.uint16)
    new["flags"] = old["flags"] & COUNTED_1 | live
    for name in ("counter", "peak", "memory"):
        new[name][:, :SCALES_1] = old[name]
    new["weight"] = old["weight"] * WEIGHT_UNITS
    new["tokens"] = np.where(live, old["burst"], 0)
    return new


def _site_of_1(old: Records) -> Records:
    """A site that has decided before goes on deciding, with the cohort that it has learned."""
    new = _carried(old, np.repeat(empty_site(), len(old)))
    open_pools(new)
    new["day"] = new["decides_from"] = old["clock_ms"] // DAY_MS
    new["stretched_s"] = np.maximum(1, old["first_ms"] // 1000)
    return new


CURRENT = {ROW_KIND: ROW, SITE_KIND: SITE, DOOR_KIND: DOOR, FLOOD_KIND: FLOOD, POOL_KIND: POOL}
EARLIER: dict[int, tuple[np.dtype[Any], Callable[[Records], Records]]] = {
    ROW_KIND: (ROW_1, _row_of_1),
    SITE_KIND: (SITE_1, _site_of_1),
}


def sizes() -> npt.NDArray[np.int64]:
    """Octets of a record by version and kind; -1 for what can't be read."""
    found = np.full((STATE_VERSION + 1, KINDS), -1, np.int64)
    for version, kinds in ((STATE_VERSION - 1, {k: old for k, (old, _) in EARLIER.items()}), (STATE_VERSION, CURRENT)):
        for kind, dtype in kinds.items():
            found[version, kind] = dtype.itemsize
    return found


def upgraded(kind: int, octets: npt.NDArray[np.uint8]) -> Records:
    """Records of the version before this one (uint8[n, size]) as this version has them."""
    dtype, upgrade = EARLIER[kind]
    return upgrade(octets.view(dtype).reshape(len(octets)))
