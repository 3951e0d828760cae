"""The twin of bounded memory in plain Python: who gets a row of a table that has an end, who loses it, and what is said of
those who have none. `BoundedOracle` is the `PartitionOracle` with a capacity; it shares nothing with the kernels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from tests.oracles.detector import PartitionOracle
from tests.oracles.guard import Guard
from tests.oracles.hashing import WORD, splitmix
from tests.oracles.pools import Crowds
from tests.oracles.senders import DAY_MS, HOUR_MS, PROBATION_DAYS, OracleRow, burst_of, limits_of, single
from tests.oracles.verdicts import Verdict

IPV4_KEYS = 0xFFFFFFFF_00000000
DOOR_SEED, FLOOD_SEED = 0x71DE6A7E_D0012EE9, 0x71DE6A7E_F100DED5
DOOR_BITS, DOOR_MOST = 2**20, 2**17
SHIFTS = (8, 16, 32)
NEWCOMERS = (4, 16, 64)
SETS, WAYS = 128, 8


def kept_until(row: OracleRow) -> int:
    """The last event's time and 0, 3 or ten times the active days (365 at most) on; the end of the latest throttle."""
    days = row.active_days
    bonus_days = 0 if days == 0 else 3 if days <= PROBATION_DAYS else min(365, 10 * days)
    return max(row.last_ms + bonus_days * DAY_MS, row.until_ms)


def demand_of_stranger(messages: int, outcome: str) -> int:
    """A retry is none, a rejection six: nothing of a stranger was ever accepted."""
    return {"accepted": 1, "rejected": 6, "deferred": 0}[outcome] * messages


class Door:
    """Who was here: a Bloom filter of 2^20 bits and four hashes h + i (h >> 32 | 1); the 2^17th but one empties it."""

    def __init__(self) -> None:
        self.bits: set[int] = set()
        self.keys = 0

    def knock(self, key: int) -> bool:
        """Whether the key was here, as far as the door can tell."""
        mixed = splitmix(key, DOOR_SEED)
        own = {(mixed + i * (mixed >> 32 | 1)) % WORD % DOOR_BITS for i in range(4)}
        if own <= self.bits:
            return True
        if self.keys == DOOR_MOST:
            self.bits, self.keys = set(), 0
        self.bits |= own
        self.keys += 1
        return False


@dataclass
class Place:
    """A prefix and the leaky demand (tau one hour) of those in it who have no row."""

    key: int = 0
    last_ms: int = 0
    until_ms: int = 0
    demand: float = 0.0
    rate_per_h: float = 0.0

    def at(self, t_ms: int) -> float:
        """The demand, faded to a moment."""
        return self.demand * math.exp(-max(0, t_ms - self.last_ms) / HOUR_MS)

    def add(self, t_ms: int, amount: float) -> None:
        """More demand, or less."""
        self.demand, self.last_ms = self.at(t_ms) + amount, max(t_ms, self.last_ms)


@dataclass
class Flood:
    """Three ranks of 128 sets of eight places."""

    sets: dict[tuple[int, int], list[Place]] = field(
        default_factory=lambda: defaultdict(lambda: [Place() for _ in range(WAYS)])
    )

    def prefixes(self, key: int) -> list[tuple[int, int]]:
        """(rank, first key) of a key's prefixes, the longest first."""
        return [(rank, key >> shift << shift) for rank, shift in enumerate(SHIFTS[: 2 if key >= IPV4_KEYS else 3])]

    def find(self, rank: int, prefix: int) -> Place | None:
        """The prefix's place, if it has one."""
        used = [place for place in self._set(rank, prefix) if place.until_ms or place.demand > 0]
        return next((place for place in used if place.key == prefix), None)

    def _set(self, rank: int, prefix: int) -> list[Place]:
        return self.sets[rank, splitmix(prefix, FLOOD_SEED) % SETS]

    def count(self, rank: int, prefix: int, t_ms: int, amount: float) -> Place | None:
        """Count demand; who has no place takes the weakest that isn't throttled, or wears it down."""
        place = self.find(rank, prefix)
        if place is not None:
            place.add(t_ms, amount)
            return place
        free = [place for place in self._set(rank, prefix) if not place.until_ms]
        if not free:
            return None
        weakest = min(free, key=lambda place: place.at(t_ms))
        left = weakest.at(t_ms)
        if left >= amount:
            weakest.add(t_ms, -amount)
            return None
        weakest.key, weakest.last_ms, weakest.demand = prefix, t_ms, amount - left
        return weakest

    def held(self) -> list[tuple[int, int, int, Place]]:
        """(end, key, rank, place) of the throttled prefixes, in the order in which they end."""
        found = [
            (place.until_ms, place.key, rank, place)
            for (rank, _), places in self.sets.items()
            for place in places
            if place.until_ms
        ]
        return sorted(found, key=lambda one: one[:3])


def length_of(key: int, rank: int) -> int:
    """Bits of the prefix."""
    return (32 if key >= IPV4_KEYS else 64) - SHIFTS[rank]


class BoundedOracle(PartitionOracle):
    """A partition whose table holds ``capacity`` rows."""

    def __init__(
        self,
        threshold: float,
        window_ms: int,
        capacity: int,
        crowds: Crowds | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(threshold, window_ms, crowds, guard=guard)
        self.capacity = capacity
        self.door, self.flood = Door(), Flood()
        self.untracked = self.evicted = self.horizon_ms = self.sweep_after_ms = 0
        self._nothing_ends_before_ms: float = math.inf

    def admitted(self, key: int, t_ms: int, messages: int, outcome: str) -> OracleRow | None:
        """Everybody while a sixteenth is free; then who exceeds a newcomer's limit by this event or was at the door before,
        and isn't under a throttled prefix; nobody whose event is older than what was evicted."""
        if t_ms < self.horizon_ms:
            return None
        if len(self.rows) >= self.capacity - self.capacity // 16:
            if self._covering(key) is not None:
                return None
            at_once = demand_of_stranger(messages, outcome) > self.threshold * min(self.cohort.lnew)
            if not at_once and not self.door.knock(key):
                return None
            if len(self.rows) == self.capacity:
                self._sweep()
            if len(self.rows) == self.capacity or t_ms < self.horizon_ms:
                return None
        return self._insert(key, t_ms)

    def _sweep(self) -> None:
        """Evict at least a sixteenth, the rows that are kept for the shortest, if so many are kept until before the clock."""
        if self.clock_ms < self.sweep_after_ms:
            return
        wanted = max(1, self.capacity // 16)
        last_ms = sorted(map(kept_until, self.rows.values()))[wanted - 1]
        if last_ms >= self.clock_ms:
            self.sweep_after_ms = self.clock_ms + HOUR_MS
            return
        self.horizon_ms = last_ms + 1
        stay = {key: row for key, row in self.rows.items() if kept_until(row) > last_ms}
        self.evicted += len(self.rows) - len(stay)
        self.rows = stay

    def _bound(self, rank: int) -> float:
        """Messages an hour of those without a row: four, sixteen, sixty-four newcomers' limits."""
        return self.threshold * NEWCOMERS[rank] * self.cohort.lnew[0]

    def _covering(self, key: int) -> tuple[int, int, Place] | None:
        """(rank, prefix, place) of the longest throttled prefix around a key."""
        for rank, prefix in self.flood.prefixes(key) if self._nothing_ends_before_ms < math.inf else ():
            place = self.flood.find(rank, prefix)
            if place is not None and place.until_ms:
                return rank, prefix, place
        return None

    def stranger(self, offset: int, t_ms: int, key: int, messages: int, outcome: str) -> list[Verdict]:
        """Count for the throttled prefix around the key alone, else for all its prefixes; hold the longest that is beyond its
        bound, to a quarter of that an hour."""
        self.untracked += 1
        amount = demand_of_stranger(messages, outcome)
        if amount == 0 or not self.deciding():
            return []
        covering = self._covering(key)
        chosen = [covering[:2]] if covering else self.flood.prefixes(key)
        counted = [(rank, self.flood.count(rank, prefix, t_ms, amount)) for rank, prefix in chosen]
        for rank, place in counted:
            if place is not None and self._hold(rank, place, t_ms):
                hour = (True, False, False, False, False)
                return [
                    Verdict(
                        kind="throttle", key=place.key, issued_ms=t_ms, until_ms=place.until_ms, offset=offset,
                        rate_per_min=place.rate_per_h / 60.0, burst=max(1.0, place.rate_per_h), reason="pool",
                        scales=("1h",), prefix=length_of(key, rank),
                        counters=tuple(place.demand * one for one in hour),
                        limits=tuple(self._bound(rank) * one for one in hour), peaks=(0.0,) * 5, threshold=self.threshold,
                    )
                ]  # fmt: skip
        return []

    def _hold(self, rank: int, place: Place, t_ms: int) -> bool:
        rate_per_h = self._bound(rank) / 4.0
        enough = place.until_ms and 2 * (place.until_ms - t_ms) >= HOUR_MS and rate_per_h > 0.8 * place.rate_per_h
        if place.demand <= self._bound(rank) or enough:
            return False
        place.until_ms, place.rate_per_h = max(place.until_ms, t_ms + HOUR_MS), rate_per_h
        self._nothing_ends_before_ms = min(self._nothing_ends_before_ms, place.until_ms)
        return True

    def _lapse(self, offset: int) -> list[Verdict]:
        """Keys first, then prefixes by end, key and rank."""
        verdicts = super()._lapse(offset)
        if self._nothing_ends_before_ms > self.clock_ms:
            return verdicts
        for until_ms, key, rank, place in self.flood.held():
            if until_ms <= self.clock_ms:
                place.until_ms = 0
                verdicts.append(Verdict("release", key, self.clock_ms, until_ms, offset, prefix=length_of(key, rank)))
        self._nothing_ends_before_ms = min((one[0] for one in self.flood.held()), default=math.inf)
        return verdicts

    def passed(self, offset: int, t_ms: int, key: int, row: OracleRow) -> list[Verdict]:
        """A known sender under a throttled prefix may send its hourly limit, for as long as the prefix is held."""
        covering = self._covering(key)
        if covering is None or row.active_days <= PROBATION_DAYS:
            return []
        rank, _, place = covering
        soon = 2 * (row.until_ms - t_ms) < HOUR_MS and row.until_ms < place.until_ms
        if key in self.live and not (row.passes and soon):
            return []
        limits = limits_of(row, self.cohort.lnew, self.threshold)
        row.until_ms = max(row.until_ms, place.until_ms)
        row.rate_per_h, row.tokens, row.passes = single(limits[0]), single(burst_of(limits[0])), True
        self.live.add(key)
        self._note_next_lapse()
        return [
            Verdict(
                kind="throttle", key=key, issued_ms=t_ms, until_ms=row.until_ms, offset=offset,
                rate_per_min=row.rate_per_h / 60.0, burst=burst_of(row.rate_per_h), reason="pool", within=length_of(key, rank),
                counters=tuple(row.counter), limits=limits, peaks=tuple(row.memory), active_days=row.active_days,
                first_seen_ms=1000 * row.first_seen_s, threshold=self.threshold,
            )
        ]  # fmt: skip
