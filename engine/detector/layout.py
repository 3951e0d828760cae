"""What is kept: one ROW a key, one SITE a partition, and the arrays they live in.

A row has 120 octets; its place in the index costs 8 more at full capacity: 128 octets a key, all told. Rows are dense, in
order of first sight, so a checkpoint gathers changed rows by number and memory is touched only as it fills. float32 holds
what only ever meets a limit; stamps are exact. A row is full: what comes next must push something out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.constants import (
    BINS,
    DOOR_BITS,
    FAR_DAY,
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
    SUSPECTS,
)

STATE_VERSION = (
    2  # of all that is kept, written into every changelog value; `engine.state.migrations` has the earlier ones
)

ROW = np.dtype(
    [
        ("key", "u8"),
        ("last_ms", "i8"),
        ("until_ms", "i8"),  # end of the latest throttle, which is live as long as the row is WAITING; never goes back
        ("first_seen_s", "u4"),
        ("day", "i4"),  # the open UTC day, in days since 1970
        ("counter", "f4", (SCALES,)),  # leaky demand
        ("peak", "f4", (SCALES,)),  # of the open day
        ("memory", "f4", (SCALES,)),  # decayed maximum of closed days' peaks
        ("typical", "f4"),  # log mean of a closed day's busiest hour
        ("rate_per_h", "f4"),  # of the live throttle; its burst is an hour's worth
        ("tokens", "f4"),  # left in its bucket, as an edge would have it
        ("active_days", "u2"),  # closed
        ("accepted", "u2"),
        ("rejected", "u2"),
        ("flags", "u2"),
        ("weight", "u2"),  # days behind `typical`, in 1/1000
        ("held", "u2"),  # messages that throttles held back and the site has not booked yet
        ("bin", "u1", (SLOW,)),  # where the cohort counts this newcomer
        ("pool", "u1"),
    ],
    align=True,
)
COUNTED = 1  # in the cohort
DIRTY = 2  # changed since the last checkpoint
WAITING = 4  # in the queue of lapsing throttles
PASSED = 8  # its throttle lets it pass: it only stands against that of its prefix
STORED = 16  # in the changelog

POOL = np.dtype(
    [
        ("key", "u8"),  # level + 1 in the top octet, the network's bits below
        ("last_ms", "i8"),
        ("alarm_ms", "i8"),  # event time of the last alarm
        ("used", "i8"),  # twice the offset of the last event that counted here, + 1 for its narrower pool
        ("day", "i4"),  # the open UTC day
        ("volume", "f4"),  # leaky demand of keys younger than a week
        ("keys", "f4"),  # leaky count of new keys
        ("peak", "f4"),  # of the open day's volume
        ("mean", "f4"),  # of closed days' log peaks
        ("variance", "f4"),
        ("weight", "f4"),  # days behind mean and variance
        ("bin", "u1"),  # where the site counts this day of the pool
        ("flags", "u1"),
        ("spare", "u1", (2,)),
    ],
    align=True,
)
LEARNING, ALARMED = 1, 4  # the open day counts for the site; it had an alarm; beside them DIRTY
POOL_CURSOR = np.dtype(
    [("rows", "i8"), ("dirty", "i8"), ("gone", "i8")],
    align=True,
)

SITE = np.dtype(
    [
        ("applied_offset", "i8"),  # the last source offset that all of this state has applied; -1 for none
        ("clock_ms", "i8"),  # greatest event time so far
        ("first_ms", "i8"),  # event time of the first event; -1 before it
        ("hist", "f8", (SLOW, BINS)),
        ("q90", "f8", (SLOW,)),
        ("limit", "f8", (SLOW,)),  # of a newcomer at T = 1
        ("day", "i8"),  # the open UTC day of the site's clock
        ("decides_from", "i8"),  # the UTC day from which on it decides; FAR_DAY while it learns
        ("stretched_s", "i8"),  # when the cohort took the site's scale; 0 before
        ("counted", "i8"),  # newcomers counted since then
        ("lean", "f8"),  # T is the knob's times this
        ("demand", "f8"),  # fading messages of known senders
        ("booked", "f8"),  # fading busy hours of theirs that were held back
        ("day_demand", "f8"),  # messages of the open day, of everybody,
        ("day_held", "f8"),  # and those of them that a throttle held back
        ("q50", "f8"),  # of the hour
        ("neighbours", "f4", (NEIGHBOUR_SLOTS,)),  # leaky count of new keys, by hash of their /16 or /48
        ("neighbours_ms", "i8", (NEIGHBOUR_SLOTS,)),
        ("pool_hist", "f8", (RELAY, BINS)),  # of pools' daily peaks: /24 or /56, /16 or /48
        ("pool_q90", "f8", (RELAY,)),
        ("pool_mean", "f8", (RELAY,)),  # log mean and deviation of what is usual
        ("pool_deviation", "f8", (RELAY,)),
        ("pool_days", "i8", (RELAY,)),  # counted in the histogram
        ("pool_throttles", "f8"),  # leaky count
        ("pool_throttles_ms", "i8"),
        ("new_keys", "i8"),
        ("since_halving", "i8"),
        ("events", "i8"),  # counted
        ("late", "i8"),  # stamped too far from the record's own time
        ("poison", "i8"),
        ("throttles", "i8"),
        ("releases", "i8"),
        ("shadows", "i8"),  # throttles that were not published: the site was learning, or is told to watch only
        ("overcrowded", "i8"),  # events that a pool would have throttled if there weren't too many such throttles
        ("shadowed", "i8"),  # events that the /16 rule would have answered if it weren't in shadow
        ("untracked", "i8"),  # events of keys without a row
        ("miskeyed", "i8"),  # keys that came in a partition which isn't theirs
        ("excess", "f8"),  # known senders throttled beyond the guard's share
        ("excess_ms", "i8"),  # event time since when,
        ("suspected", "i8"),  # and how many of `suspects` they are
        ("suspects", "u8", (SUSPECTS,)),  # keys whose decisions are taken back if the guard trips
        ("leaving", "i8"),  # how many of them are still to be released
        ("seen_ms", "i8"),  # a known sender counts for the guard if it was last seen before
        ("free", "i8"),  # known senders that sent freely since then,
        ("free_before", "i8"),  # and in the half minute before
        ("rearm_ms", "i8"),  # when it is asked whether the guard re-arms; 0 while it is armed
        ("guard_senders", "i8"),  # known senders since it tripped or was asked last,
        ("guard_alarms", "i8"),  # and those of them that were above a limit
        ("tripped_ms", "i8"),  # event time when the guard tripped last
        ("trips", "i8"),
        ("withdrawn", "i8"),  # decisions
        ("horizon_ms", "i8"),  # rows kept for less have been evicted
        ("sweep_after_ms", "i8"),  # event time before which a full table isn't swept again
        ("evicted", "i8"),  # rows
        ("shadow", "u8"),  # digest of the shadow that decisions in force were made under, 0 without one
    ],
    align=True,
)
DOOR = np.dtype([("keys", "i8"), ("bits", "u8", (1 << DOOR_BITS - 6,))], align=True)  # those who wait for a row
PREFIX = np.dtype(
    [
        ("key", "u8"),  # of its first address
        ("last_ms", "i8"),
        ("until_ms", "i8"),  # end of the live throttle, 0 without one
        ("demand", "f8"),  # leaky, of keys without a row
        ("rate_per_h", "f8"),  # of the live throttle
    ],
    align=True,
)
FLOOD = np.dtype([("prefixes", PREFIX, (len(PREFIX_SHIFTS), PREFIX_SETS, PREFIX_WAYS))])
CURSOR = np.dtype(
    [
        ("rows", "i8"),
        ("dirty", "i8"),
        ("waiting", "i8"),
        ("gone", "i8"),
        ("held", "i8"),  # prefixes with a live throttle
        ("held_ms", "i8"),  # not after the first of them ends
        ("door_changed", "i8"),
        ("flood_changed", "i8"),
    ],
    align=True,
)
CACHE_LINE = 64  # octets
GONE_SHARE = 8  # of the capacity: tombstones that can wait for the next checkpoint
BYTES_A_POOL = POOL.itemsize + 8 + 4 + 8
BYTES_A_ROW = ROW.itemsize + 2 * 4 + 4 + 4 + 8 + 8 // GONE_SHARE
BYTES_BESIDES = SITE.itemsize + DOOR.itemsize + FLOOD.itemsize


LEAST_ROWS, MOST_ROWS = 16, 1 << 26


class Pools(NamedTuple):
    """``keys``: uint64[rows], the rows' keys again, 0 for a free row; ``dirty``: uint32[rows]; ``gone``: uint64[rows], keys
    recycled since the last checkpoint, the first so many (of others a stale record stays, which restoring passes over).
    Rows and keys begin at a cache line."""

    rows: npt.NDArray[Any]
    keys: npt.NDArray[np.uint64]
    dirty: npt.NDArray[np.uint32]
    gone: npt.NDArray[np.uint64]
    cursor: npt.NDArray[Any]


class State(NamedTuple):
    """A partition's state. ``places``: uint32[power of two >= 2 x rows]; ``dirty``, ``queue``: uint32[rows]; ``gone``: keys
    of evicted rows that the changelog still has; ``flood``: PREFIX[rank, set, way]."""

    rows: npt.NDArray[Any]
    places: npt.NDArray[np.uint32]
    dirty: npt.NDArray[np.uint32]
    queue: npt.NDArray[np.uint32]
    queue_ms: npt.NDArray[np.int64]
    site: npt.NDArray[Any]
    cursor: npt.NDArray[Any]
    gone: npt.NDArray[np.uint64]
    door: npt.NDArray[Any]
    flood: npt.NDArray[Any]
    pools: Pools


def empty_site() -> npt.NDArray[Any]:
    """What a partition knows before its first event: SITE[1], its histograms at their prior."""
    site, bins = np.zeros(1, SITE), np.arange(BINS)
    site["applied_offset"] = site["first_ms"] = -1
    prior = np.where((bins >= 1) & (bins <= PRIOR_BINS), PRIOR_MASS * PRIOR_RATIO**bins, 0.0)
    site["hist"], site["pool_hist"] = prior, prior
    site["decides_from"], site["lean"] = FAR_DAY, 1.0
    return site


def table_bytes(capacity: int) -> int:
    """What a partition with a full table takes."""
    return capacity * BYTES_A_ROW + pool_count(capacity) * BYTES_A_POOL + BYTES_BESIDES


def empty_state(capacity: int) -> State:
    """A partition that has seen nothing. ``capacity``: keys it can hold, a power of two; memory fills as keys come."""
    if capacity & (capacity - 1) or not LEAST_ROWS <= capacity <= MOST_ROWS:
        raise ValueError(f"capacity {capacity} is not a power of two from {LEAST_ROWS} to 2^26")
    return State(
        np.zeros(capacity, ROW),
        np.zeros(2 * capacity, np.uint32),
        np.zeros(capacity, np.uint32),
        np.zeros(capacity, np.uint32),
        np.zeros(capacity, np.int64),
        empty_site(),
        np.zeros(1, CURSOR),
        np.zeros(capacity // GONE_SHARE, np.uint64),
        np.zeros(1, DOOR),
        np.zeros(FLOOD["prefixes"].shape, PREFIX),
        empty_pools(capacity),
    )


def pool_count(keys: int) -> int:
    """Rows for pools beside so many for keys."""
    return max(POOLS_LEAST, keys // ROWS_PER_POOL)


def empty_pools(keys: int) -> Pools:
    """A table for the pools of a partition of ``keys`` keys, a power of two."""
    size = pool_count(keys)
    return Pools(
        _at_a_line(size, POOL),
        _at_a_line(size, np.dtype(np.uint64)),
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint64),
        np.zeros(1, POOL_CURSOR),
    )


def _at_a_line(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Zeros that begin at a cache line."""
    octets = np.zeros(count * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -octets.ctypes.data % CACHE_LINE
    return octets[start : start + count * dtype.itemsize].view(dtype)
