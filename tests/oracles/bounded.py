"""Bounded memory in plain Python: admission to a table of limited size, eviction, and prefixes of senders without a row.

`BoundedOracle` is the `PartitionOracle` with a capacity. It shares nothing with the kernels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.oracles.breaker import BreakerOracle
from tests.oracles.detector import PartitionOracle
from tests.oracles.hashing import WORD, splitmix
from tests.oracles.pools import OraclePools
from tests.oracles.senders import DAY_MS, HOUR_MS, PROBATION_DAYS, OracleRow, burst_of, limits_of, single
from tests.oracles.verdicts import Verdict

IPV4_KEYS = 0xFFFFFFFF_00000000
FILTER_SEED, PREFIX_SEED = 0x71DE6A7E_D0012EE9, 0x71DE6A7E_F100DED5
FILTER_BITS, FILTER_KEYS = 2**20, 2**17
SHIFTS = (8, 16, 32)
NEWCOMERS = (4, 16, 64)
SETS, WAYS = 128, 8


def retain_until(row: OracleRow) -> int:
    """Return the time until which a row is kept.

    That is the last event's time plus 0, 3 or ten times the active days (365 at most), or the end of the latest throttle.
    """
    days = row.active_days
    bonus_days = 0 if days == 0 else 3 if days <= PROBATION_DAYS else min(365, 10 * days)
    return max(row.last_ms + bonus_days * DAY_MS, row.until_ms)


def untracked_demand(messages: int, outcome: str) -> int:
    """Return the demand of a sender without a row: 0 for a retry, sixfold for a rejection."""
    return {"accepted": 1, "rejected": 6, "deferred": 0}[outcome] * messages


class AdmissionFilter:
    """A Bloom filter of 2^20 bits and four hashes h + i (h >> 32 | 1); it is cleared before the key after the 2^17th."""

    def __init__(self) -> None:
        self.bits: set[int] = set()
        self.keys = 0

    def seen_before(self, key: int) -> bool:
        """Return True if the filter has the key (most likely), and add it."""
        mixed = splitmix(key, FILTER_SEED)
        own = {(mixed + i * (mixed >> 32 | 1)) % WORD % FILTER_BITS for i in range(4)}
        if own <= self.bits:
            return True
        if self.keys == FILTER_KEYS:
            self.bits, self.keys = set(), 0
        self.bits |= own
        self.keys += 1
        return False


@dataclass
class PrefixSlot:
    """A prefix and the decayed demand (tau one hour) of its senders without a row."""

    key: int = 0
    last_ms: int = 0
    until_ms: int = 0
    demand: float = 0.0
    rate_per_h: float = 0.0

    def at(self, t_ms: int) -> float:
        """Return the demand, decayed to a time."""
        return self.demand * math.exp(-max(0, t_ms - self.last_ms) / HOUR_MS)

    def add(self, t_ms: int, amount: float) -> None:
        """Add demand, or subtract it."""
        self.demand, self.last_ms = self.at(t_ms) + amount, max(t_ms, self.last_ms)


class ThrottledPrefix(NamedTuple):
    """A throttled prefix; sorts in the order of expiry."""

    until_ms: int
    key: int
    rank: int
    slot: PrefixSlot


@dataclass
class PrefixTable:
    """Three ranks of 128 sets of eight slots."""

    sets: dict[tuple[int, int], list[PrefixSlot]] = field(
        default_factory=lambda: defaultdict(lambda: [PrefixSlot() for _ in range(WAYS)])
    )

    def prefixes(self, key: int) -> list[tuple[int, int]]:
        """Return (rank, first key) of a key's prefixes, the longest first."""
        return [(rank, key >> shift << shift) for rank, shift in enumerate(SHIFTS[: 2 if key >= IPV4_KEYS else 3])]

    def find(self, rank: int, prefix: int) -> PrefixSlot | None:
        """Return the prefix's slot, if it has one."""
        used = [slot for slot in self._set(rank, prefix) if slot.until_ms or slot.demand > 0]
        return next((slot for slot in used if slot.key == prefix), None)

    def _set(self, rank: int, prefix: int) -> list[PrefixSlot]:
        return self.sets[rank, splitmix(prefix, PREFIX_SEED) % SETS]

    def count(self, rank: int, prefix: int, t_ms: int, amount: float) -> PrefixSlot | None:
        """Count demand. A prefix without a slot takes the weakest one that isn't throttled, or reduces its demand."""
        slot = self.find(rank, prefix)
        if slot is not None:
            slot.add(t_ms, amount)
            return slot
        free = [slot for slot in self._set(rank, prefix) if not slot.until_ms]
        if not free:
            return None
        weakest = min(free, key=lambda slot: slot.at(t_ms))
        left = weakest.at(t_ms)
        if left >= amount:
            weakest.add(t_ms, -amount)
            return None
        weakest.key, weakest.last_ms, weakest.demand = prefix, t_ms, amount - left
        return weakest

    def throttled(self) -> list[ThrottledPrefix]:
        """Return the throttled prefixes in the order in which they expire."""
        throttled = [
            ThrottledPrefix(slot.until_ms, slot.key, rank, slot)
            for (rank, _), slots in self.sets.items()
            for slot in slots
            if slot.until_ms
        ]
        return sorted(throttled, key=lambda prefix: prefix[:3])


def length_of(key: int, rank: int) -> int:
    """Return the length of a key's prefix in bits."""
    return (32 if key >= IPV4_KEYS else 64) - SHIFTS[rank]


class BoundedOracle(PartitionOracle):
    """A partition whose table holds `capacity` rows."""

    def __init__(
        self,
        threshold: float,
        window_ms: int,
        capacity: int,
        pools: OraclePools | None = None,
        breaker: BreakerOracle | None = None,
    ) -> None:
        super().__init__(threshold, window_ms, pools, breaker=breaker)
        self.capacity = capacity
        self.admission_filter, self.prefixes = AdmissionFilter(), PrefixTable()
        self.untracked = self.evicted = self.horizon_ms = self.retry_ms = 0
        self._next_prefix_expiry_ms: float = math.inf

    def admit(self, key: int, t_ms: int, messages: int, outcome: str) -> OracleRow | None:
        """Return a row for every sender while a sixteenth is free, then only for some.

        Those exceed a newcomer's limit by this event, or were seen before, and aren't under a throttled prefix. No sender
        gets a row if its event is older than the eviction horizon.
        """
        if t_ms < self.horizon_ms:
            return None
        if len(self.rows) >= self.capacity - self.capacity // 16:
            if self._throttled_around(key) is not None:
                return None
            exceeds = untracked_demand(messages, outcome) > self.threshold * min(self.cohort.lnew)
            if not exceeds and not self.admission_filter.seen_before(key):
                return None
            if len(self.rows) == self.capacity:
                self._sweep()
            if len(self.rows) == self.capacity or t_ms < self.horizon_ms:
                return None
        return self._insert(key, t_ms)

    def _sweep(self) -> None:
        """Evict at least a sixteenth, the rows kept for the shortest time, if so many are kept until before the clock."""
        if self.clock_ms < self.retry_ms:
            return
        wanted = max(1, self.capacity // 16)
        last_ms = sorted(map(retain_until, self.rows.values()))[wanted - 1]
        if last_ms >= self.clock_ms:
            self.retry_ms = self.clock_ms + HOUR_MS
            return
        self.horizon_ms = last_ms + 1
        kept = {key: row for key, row in self.rows.items() if retain_until(row) > last_ms}
        self.evicted += len(self.rows) - len(kept)
        self.rows = kept

    def _hourly_limit(self, rank: int) -> float:
        """Return the messages an hour of senders without a row: four, sixteen, sixty-four newcomer limits."""
        return self.threshold * NEWCOMERS[rank] * self.cohort.lnew[0]

    def _throttled_around(self, key: int) -> tuple[int, int, PrefixSlot] | None:
        """Return (rank, prefix, slot) of the longest throttled prefix around a key."""
        for rank, prefix in self.prefixes.prefixes(key) if self._next_prefix_expiry_ms < math.inf else ():
            slot = self.prefixes.find(rank, prefix)
            if slot is not None and slot.until_ms:
                return rank, prefix, slot
        return None

    def untracked_event(self, offset: int, t_ms: int, key: int, messages: int, outcome: str) -> list[Verdict]:
        """Count for the throttled prefix around the sender alone, else for all its prefixes.

        Throttle the longest one above its limit, to a quarter of that limit an hour.
        """
        self.untracked += 1
        amount = untracked_demand(messages, outcome)
        if amount == 0 or not self.is_deciding():
            return []
        around = self._throttled_around(key)
        chosen = [around[:2]] if around else self.prefixes.prefixes(key)
        counted = [(rank, self.prefixes.count(rank, prefix, t_ms, amount)) for rank, prefix in chosen]
        for rank, slot in counted:
            if slot is not None and self._throttle(rank, slot, t_ms):
                hour = (True, False, False, False, False)
                return [
                    Verdict(
                        kind="throttle", key=slot.key, issued_ms=t_ms, until_ms=slot.until_ms, offset=offset,
                        rate_per_min=slot.rate_per_h / 60.0, burst=max(1.0, slot.rate_per_h), reason="pool",
                        scales=("1h",), prefix=length_of(key, rank),
                        counters=tuple(slot.demand * is_hour for is_hour in hour),
                        limits=tuple(self._hourly_limit(rank) * is_hour for is_hour in hour), peaks=(0.0,) * 5,
                        threshold=self.threshold,
                    )
                ]  # fmt: skip
        return []

    def _throttle(self, rank: int, slot: PrefixSlot, t_ms: int) -> bool:
        rate_per_h = self._hourly_limit(rank) / 4.0
        suffices = slot.until_ms and 2 * (slot.until_ms - t_ms) >= HOUR_MS and rate_per_h > 0.8 * slot.rate_per_h
        if slot.demand <= self._hourly_limit(rank) or suffices:
            return False
        slot.until_ms, slot.rate_per_h = max(slot.until_ms, t_ms + HOUR_MS), rate_per_h
        self._next_prefix_expiry_ms = min(self._next_prefix_expiry_ms, slot.until_ms)
        return True

    def _expire(self, offset: int) -> list[Verdict]:
        """Release keys first, then prefixes by end, key and rank."""
        verdicts = super()._expire(offset)
        if self._next_prefix_expiry_ms > self.clock_ms:
            return verdicts
        for until_ms, key, rank, slot in self.prefixes.throttled():
            if until_ms <= self.clock_ms:
                slot.until_ms = 0
                verdicts.append(Verdict("release", key, self.clock_ms, until_ms, offset, prefix=length_of(key, rank)))
        self._next_prefix_expiry_ms = min((prefix.until_ms for prefix in self.prefixes.throttled()), default=math.inf)
        return verdicts

    def grant_pass(self, offset: int, t_ms: int, key: int, row: OracleRow) -> list[Verdict]:
        """Let a known sender under a throttled prefix send its hourly limit while the prefix is throttled."""
        around = self._throttled_around(key)
        if around is None or row.active_days <= PROBATION_DAYS:
            return []
        rank, _, slot = around
        ends_soon = 2 * (row.until_ms - t_ms) < HOUR_MS and row.until_ms < slot.until_ms
        if key in self.live and not (row.passes and ends_soon):
            return []
        limits = limits_of(row, self.cohort.lnew, self.threshold)
        row.until_ms = max(row.until_ms, slot.until_ms)
        row.rate_per_h, row.tokens, row.passes = single(limits[0]), single(burst_of(limits[0])), True
        self.live.add(key)
        self._update_next_expiry()
        return [
            Verdict(
                kind="throttle", key=key, issued_ms=t_ms, until_ms=row.until_ms, offset=offset,
                rate_per_min=row.rate_per_h / 60.0, burst=burst_of(row.rate_per_h), reason="pool", within=length_of(key, rank),
                counters=tuple(row.counter), limits=limits, peaks=tuple(row.memory), active_days=row.active_days,
                first_seen_ms=1000 * row.first_seen_s, threshold=self.threshold,
            )
        ]  # fmt: skip
