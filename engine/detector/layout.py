"""Memory layout of a partition: one ROW a sender, one POOL a pool, one SITE a partition, and the arrays that hold them.

A row has 120 bytes, and its index slots cost 8 more: 128 bytes a sender at full capacity. Rows are dense, in order of first
event: a checkpoint gathers changed rows by number, and memory is touched only as the table fills. Values that are only
compared with limits are float32; timestamps are exact. A row has no spare bytes: a new field must replace another one.

Order, size and kind of all fields are the state format: changing one needs a new `STATE_VERSION` and a migration
(`engine.state.migrations`). Names may change freely.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.constants import (
    BINS,
    BREAKER_SUSPECTS,
    FAR_DAY,
    FILTER_BITS,
    NEIGHBOUR_SLOTS,
    POOLS_LEAST,
    PREFIX_SETS,
    PREFIX_SHIFTS,
    PREFIX_WAYS,
    PRIOR_BINS,
    PRIOR_MASS,
    PRIOR_RATIO,
    RELAY,
    ROWS_PER_POOL,
    SCALES,
    SLOW,
)

STATE_VERSION = 2  # written into every changelog value

ROW = np.dtype(
    [
        ("key", "u8"),
        ("last_ms", "i8"),  # greatest event time
        ("until_ms", "i8"),  # end of the latest throttle, which is active while the row is THROTTLED; never decreases
        ("first_seen_s", "u4"),
        ("day", "i4"),  # the open UTC day, in days since 1970
        ("counter", "f4", (SCALES,)),  # decayed demand
        ("peak", "f4", (SCALES,)),  # greatest counter of the open day
        ("memory", "f4", (SCALES,)),  # baseline: decayed maximum of closed days' peaks
        ("typical", "f4"),  # log mean of the busiest hours of closed days
        ("rate_per_h", "f4"),  # of the active throttle; its burst is one hour's worth
        ("tokens", "f4"),  # left in the throttle's bucket, as an edge would have it
        ("active_days", "u2"),  # closed days with events
        ("accepted", "u2"),
        ("rejected", "u2"),
        ("flags", "u2"),
        ("weight", "u2"),  # of `typical`, in 1/1000 day
        ("deferred", "u2"),  # messages that throttles deferred and that aren't charged to the budget yet
        ("bin", "u1", (SLOW,)),  # the cohort's histogram bins that count this newcomer
        ("pool", "u1"),  # unused
    ],
    align=True,
)
COUNTED = 1  # the cohort counts it as a newcomer
DIRTY = 2  # changed since the last checkpoint
THROTTLED = 4  # in the expiry queue: its throttle is active
PASSED = 8  # its throttle is a pass: it only lifts the throttle of its prefix
STORED = 16  # the changelog has it

POOL = np.dtype(
    [
        ("key", "u8"),  # level + 1 in the top byte, the network's bits below
        ("last_ms", "i8"),
        ("alarm_ms", "i8"),  # event time of the last alarm
        ("last_use", "i8"),  # 2 x offset of the last event counted here, + 1 for the narrower of its two pools
        ("day", "i4"),  # the open UTC day
        ("volume", "f4"),  # decayed demand of senders younger than a week
        ("keys", "f4"),  # decayed count of new senders
        ("peak", "f4"),  # greatest volume of the open day
        ("mean", "f4"),  # of closed days' log peaks
        ("variance", "f4"),
        ("weight", "f4"),  # days behind mean and variance
        ("bin", "u1"),  # the site's histogram bin that counts the open day
        ("flags", "u1"),
        ("spare", "u1", (2,)),
    ],
    align=True,
)
LEARNING, ALARMED = 1, 4  # flags of a pool next to DIRTY: the open day trains the site; the open day had an alarm
POOL_CURSOR = np.dtype(
    [
        ("rows", "i8"),  # in use
        ("dirty", "i8"),  # length of Pools.dirty
        ("tombstones", "i8"),  # length of Pools.tombstones
    ],
    align=True,
)

SITE = np.dtype(
    [
        ("applied_offset", "i8"),  # last source offset that the whole state has applied; -1 for none
        ("clock_ms", "i8"),  # greatest event time so far
        ("first_ms", "i8"),  # event time of the first event; -1 before it
        ("cohort_hist", "f8", (SLOW, BINS)),  # newcomers by the peak of their first day
        ("cohort_q90", "f8", (SLOW,)),
        ("cohort_limit", "f8", (SLOW,)),  # of a newcomer at T = 1
        ("day", "i8"),  # the open UTC day of the site's clock
        ("decides_from", "i8"),  # first UTC day whose decisions are published; FAR_DAY while the site learns
        ("cohort_rescaled_s", "i8"),  # when the prior was moved to the site's scale; 0 before
        ("cohort_counted", "i8"),  # newcomers counted since then
        ("threshold_scale", "f8"),  # T = Policy.threshold x this
        ("budget_demand", "f8"),  # messages of known senders, decayed over 90 days
        ("budget_charged", "f8"),  # their busy hours that were deferred, decayed over 90 days
        ("budget_day_demand", "f8"),  # messages of all senders on the open day,
        ("budget_day_deferred", "f8"),  # and those of them that a throttle deferred
        ("cohort_q50", "f8"),  # of the scale of one hour
        ("cohort_neighbours", "f4", (NEIGHBOUR_SLOTS,)),  # decayed count of new senders, by hash of their /16 or /48
        ("cohort_neighbours_ms", "i8", (NEIGHBOUR_SLOTS,)),
        ("pool_hist", "f8", (RELAY, BINS)),  # pools' days by peak: /24 or /56, /16 or /48
        ("pool_q90", "f8", (RELAY,)),
        ("pool_mean", "f8", (RELAY,)),  # log mean and deviation of the usual peak
        ("pool_deviation", "f8", (RELAY,)),
        ("pool_days", "i8", (RELAY,)),  # counted in the histogram
        ("pool_throttles", "f8"),  # decayed count
        ("pool_throttles_ms", "i8"),
        ("cohort_new_keys", "i8"),
        ("cohort_since_halving", "i8"),
        ("events", "i8"),  # applied
        ("late", "i8"),  # events whose timestamp is too far from the record's
        ("poison", "i8"),
        ("throttles", "i8"),
        ("releases", "i8"),
        ("suppressed", "i8"),  # throttles not published because the site learns, only watches, or its breaker is open
        ("pool_over_limit", "i8"),  # events that a pool would have throttled but for POOL_THROTTLES
        ("pool_shadowed", "i8"),  # events that the /16 rule would have throttled if it weren't in shadow
        ("untracked", "i8"),  # events of senders without a row
        ("miskeyed", "i8"),  # new senders that belong to another partition
        ("breaker_excess", "f8"),  # throttles of known senders above the tolerated share
        ("breaker_excess_since_ms", "i8"),  # event time when it rose above 0
        ("breaker_suspected", "i8"),  # length of breaker_suspects
        ("breaker_suspects", "u8", (BREAKER_SUSPECTS,)),  # senders whose throttles are withdrawn if the breaker trips
        ("breaker_pending", "i8"),  # suspects that are still to be released
        ("breaker_window_ms", "i8"),  # start of the window: a known sender counts if its last event was before this
        ("breaker_free", "i8"),  # known senders that sent without a throttle in this window
        ("breaker_free_before", "i8"),  # and in the window before
        ("breaker_rearm_ms", "i8"),  # event time of the next check of an open breaker; 0 while it is closed
        ("breaker_senders", "i8"),  # known senders seen since the breaker tripped or was last checked
        ("breaker_alarms", "i8"),  # those of them above a limit
        ("breaker_tripped_ms", "i8"),  # event time of the last trip
        ("breaker_trips", "i8"),
        ("breaker_withdrawn", "i8"),  # throttles
        ("eviction_horizon_ms", "i8"),  # rows retained for less have been evicted
        ("eviction_retry_ms", "i8"),  # event time before which a full table isn't swept again
        ("evicted", "i8"),  # rows
        ("shadow_digest", "u8"),  # digest of the shadow that active decisions were made under, 0 for none
    ],
    align=True,
)
FILTER = np.dtype([("keys", "i8"), ("bits", "u8", (1 << FILTER_BITS - 6,))], align=True)  # admission filter
PREFIX = np.dtype(
    [
        ("key", "u8"),  # of its first address
        ("last_ms", "i8"),
        ("until_ms", "i8"),  # end of the active throttle, 0 without one
        ("demand", "f8"),  # decayed, of senders without a row
        ("rate_per_h", "f8"),  # of the active throttle
    ],
    align=True,
)
PREFIX_TABLE = np.dtype([("prefixes", PREFIX, (len(PREFIX_SHIFTS), PREFIX_SETS, PREFIX_WAYS))])
CURSOR = np.dtype(
    [
        ("rows", "i8"),  # in use
        ("dirty", "i8"),  # length of State.dirty
        ("throttled", "i8"),  # length of State.queue
        ("tombstones", "i8"),  # length of State.tombstones
        ("throttled_prefixes", "i8"),
        ("prefix_expiry_ms", "i8"),  # no throttled prefix expires before this
        ("filter_changed", "i8"),  # since the last checkpoint
        ("prefixes_changed", "i8"),
    ],
    align=True,
)
CACHE_LINE = 64  # bytes
TOMBSTONE_SHARE = 8  # of the capacity: tombstones that can wait for the next checkpoint
BYTES_A_POOL = POOL.itemsize + 8 + 4 + 8
BYTES_A_ROW = ROW.itemsize + 2 * 4 + 4 + 4 + 8 + 8 // TOMBSTONE_SHARE
BYTES_BESIDES = SITE.itemsize + FILTER.itemsize + PREFIX_TABLE.itemsize
LEAST_ROWS, MOST_ROWS = 16, 1 << 26


class Pools(NamedTuple):
    """A partition's pools. `rows` and `keys` begin at a cache line."""

    rows: npt.NDArray[Any]  # POOL[]
    keys: npt.NDArray[np.uint64]  # copy of the rows' keys, 0 for a free row
    dirty: npt.NDArray[np.uint32]  # row numbers
    tombstones: npt.NDArray[np.uint64]  # keys replaced since the last checkpoint; a restore ignores the rest
    cursor: npt.NDArray[Any]  # POOL_CURSOR[1]


class State(NamedTuple):
    """A partition's state."""

    rows: npt.NDArray[Any]  # ROW[]
    slots: npt.NDArray[np.uint32]  # hash index, at least twice as long as `rows`, a power of two
    dirty: npt.NDArray[np.uint32]  # row numbers
    queue: npt.NDArray[np.uint32]  # heap of row numbers by end of throttle
    queue_ms: npt.NDArray[np.int64]  # that end
    site: npt.NDArray[Any]  # SITE[1]
    cursor: npt.NDArray[Any]  # CURSOR[1]
    tombstones: npt.NDArray[np.uint64]  # keys of evicted rows that the changelog still has
    admission_filter: npt.NDArray[Any]  # FILTER[1]
    prefixes: npt.NDArray[Any]  # PREFIX[rank, set, way]
    pools: Pools


def empty_site() -> npt.NDArray[Any]:
    """Return the SITE[1] of a partition before its first event, with the prior in its histograms."""
    site, bins = np.zeros(1, SITE), np.arange(BINS)
    site["applied_offset"] = site["first_ms"] = -1
    prior = np.where((bins >= 1) & (bins <= PRIOR_BINS), PRIOR_MASS * PRIOR_RATIO**bins, 0.0)
    site["cohort_hist"], site["pool_hist"] = prior, prior
    site["decides_from"], site["threshold_scale"] = FAR_DAY, 1.0
    return site


def table_bytes(capacity: int) -> int:
    """Return the memory of a partition whose table is full."""
    return capacity * BYTES_A_ROW + pool_count(capacity) * BYTES_A_POOL + BYTES_BESIDES


def empty_state(capacity: int) -> State:
    """Return the state of a partition before its first event.

    `capacity` is the number of senders, a power of two. Pages of memory are touched only as senders arrive.
    """
    if capacity & (capacity - 1) or not LEAST_ROWS <= capacity <= MOST_ROWS:
        raise ValueError(f"capacity {capacity} is not a power of two from {LEAST_ROWS} to 2^26")
    return State(
        rows=np.zeros(capacity, ROW),
        slots=np.zeros(2 * capacity, np.uint32),
        dirty=np.zeros(capacity, np.uint32),
        queue=np.zeros(capacity, np.uint32),
        queue_ms=np.zeros(capacity, np.int64),
        site=empty_site(),
        cursor=np.zeros(1, CURSOR),
        tombstones=np.zeros(capacity // TOMBSTONE_SHARE, np.uint64),
        admission_filter=np.zeros(1, FILTER),
        prefixes=np.zeros(PREFIX_TABLE["prefixes"].shape, PREFIX),
        pools=empty_pools(capacity),
    )


def pool_count(capacity: int) -> int:
    """Return the number of pool rows for a table of `capacity` senders."""
    return max(POOLS_LEAST, capacity // ROWS_PER_POOL)


def empty_pools(capacity: int) -> Pools:
    """Return an empty pool table for a partition of `capacity` senders, a power of two."""
    size = pool_count(capacity)
    return Pools(
        rows=_aligned_zeros(size, POOL),
        keys=_aligned_zeros(size, np.dtype(np.uint64)),
        dirty=np.zeros(size, np.uint32),
        tombstones=np.zeros(size, np.uint64),
        cursor=np.zeros(1, POOL_CURSOR),
    )


def _aligned_zeros(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return zeros that begin at a cache line."""
    raw = np.zeros(count * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + count * dtype.itemsize].view(dtype)
