"""Pools of newcomers in plain Python: one object per pool, a dictionary per set of eight.

Part of the twin of the detector: `tests.oracles.detector` passes on every event of a sender younger than a week. Units and
rounding are the detector's: float64 arithmetic, `single` where a row keeps a float32.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_network
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from tests.oracles.hashing import splitmix

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YOUNG_MS = 7 * DAY_MS
NARROW, WIDE, RELAY = 1, 2, 3
FACTOR = {NARROW: 4.0, WIDE: 2.0}
SPREAD = 1.2
NORMAL_Q90 = 1.2815515655446004
ALARM_LASTS_MS = DAY_MS
LEARN_AFTER_MS = 2 * DAY_MS
BINS = 96
WAYS = 8
HALVE_EVERY, REFRESH_EVERY = 500, 32


def single(x: float) -> float:
    """Return the float64 that a float32 field gives back after `x` was stored in it."""
    return float(np.float32(x))


def pool_of(key: int, level: int) -> int:
    """Return a pool's key: the level in the top byte, below it the address key without its last one or two bytes."""
    return level << 56 | key >> 8 * level


def quantile(histogram: list[float], q: float) -> float:
    """Return the upper edge of the first bin at which the running sum reaches `q` of the whole."""
    wanted = q * list(accumulate(histogram))[-1]
    reached = list(accumulate(histogram))
    b = next((b for b in range(BINS) if reached[b] >= wanted), BINS - 1)
    return float(2.0 ** ((b + 1) / 6)) - 1.0


class UsualDays:
    """The usual pool of one level on this site: a histogram of daily peaks, and log mean and deviation from it."""

    def __init__(self) -> None:
        self.hist = [12.0 * 0.85**b if 1 <= b <= 39 else 0.0 for b in range(BINS)]
        self.days = 0
        self.read()

    def read(self) -> None:
        """Set mean and deviation of the log peaks from the median and the ninth decile."""
        q50, self.q90 = quantile(self.hist, 0.5), max(1.0, quantile(self.hist, 0.9))
        self.mean = math.log(1.0 + q50)
        self.deviation = (math.log(1.0 + self.q90) - self.mean) / NORMAL_Q90

    def open_day(self) -> None:
        """Add a pool's day in bin 0."""
        self.hist[0] += 1.0
        self.days += 1
        if self.days % HALVE_EVERY == 0:
            self.hist = [0.5 * weight for weight in self.hist]
        if self.days % REFRESH_EVERY == 0:
            self.read()

    def update(self, pool: OraclePool) -> None:
        """Move the day's unit up to the bin of min(peak, 1.5 Q90)."""
        b = min(BINS - 1, math.floor(6 * math.log2(1.0 + min(pool.peak, 1.5 * self.q90))))
        if b > pool.bin:
            unit = min(1.0, self.hist[pool.bin])
            self.hist[pool.bin] -= unit
            self.hist[b] += unit
            pool.bin = b


@dataclass
class OraclePool:
    """The state of one pool."""

    last_ms: int
    alarm_ms: int
    last_use: int = 0
    day: int = 0
    volume: float = 0.0
    keys: float = 0.0
    peak: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    weight: float = 4.0
    bin: int = 0
    learning: bool = False
    alarmed: bool = False


class YoungEvent(NamedTuple):
    """An event of a sender younger than a week."""

    demand: float
    is_first: bool  # of its sender
    is_newcomer: bool  # its sender has three active days at most


class PoolCount(NamedTuple):
    """What an event adds to one pool."""

    demand: float
    is_new: bool  # a new sender
    trains: bool  # it may train the site


class OraclePools:
    """All pools of a partition."""

    def __init__(
        self,
        keys: tuple[float, float] = (24.0, 24.0),  # new senders that make a /24 and a /16 suspicious, 0 for never
        capacity: int = 64,
        *,
        shadow: bool = False,
        relays: Mapping[str, Sequence[str]] | None = None,  # announced networks by name
    ) -> None:
        self.new_keys = {NARROW: keys[0], WIDE: keys[1]}
        self.capacity, self.shadow = capacity, shadow
        self.relays = [(ip_network(n), name) for name, networks in (relays or {}).items() for n in networks]
        self.usual = {NARROW: UsualDays(), WIDE: UsualDays()}
        self.sets: dict[int, dict[int, OraclePool]] = defaultdict(dict)
        self.shadowed = self.over_limit = self.throttles_ms = 0
        self.throttles = 0.0

    def relay(self, key: int) -> str | None:
        """Return the relay that an address key belongs to."""
        four, address = key >> 32 == 0xFFFFFFFF, key & 0xFFFFFFFF
        for network, name in self.relays:
            base, spare = int(network.network_address), network.max_prefixlen - network.prefixlen
            own = address if four else key << 64
            if (network.version == 4) == four and own >> spare == base >> spare:
                return name
        return None

    @property
    def pools(self) -> dict[int, OraclePool]:
        """All pools by key."""
        return {key: pool for ways in self.sets.values() for key, pool in ways.items()}

    def _set(self, key: int) -> dict[int, OraclePool]:
        """Return the set of eight that a pool belongs to."""
        return self.sets[splitmix(key, 0) % self.capacity // WAYS]

    def usual_volume(self, pool: OraclePool, level: int) -> float:
        """Return B: exp(mean + 1.2 deviations) - 1 of the pool's own log peaks or of the site's, whichever is greater."""
        own = pool.mean + SPREAD * math.sqrt(pool.variance)
        return math.exp(max(own, self.usual[level].mean + SPREAD * self.usual[level].deviation)) - 1.0

    def evidence(self, key: int | None) -> tuple[float, float, float]:
        """Return new senders, volume and usual volume of a pool; zeros without one."""
        if key is None:
            return 0.0, 0.0, 0.0
        pool = self._set(key)[key]
        return pool.keys, pool.volume, self.usual_volume(pool, key >> 56)

    def evaluate(self, key: int, t_ms: int, site_age_ms: int, offset: int, event: YoungEvent) -> int | None:
        """Count one event of a young sender. Return the pool that throttles the sender."""
        has_scale = site_age_ms >= LEARN_AFTER_MS
        is_new = event.is_first and has_scale
        name = self.relay(key)
        if name is not None:
            relay = RELAY << 56 | int.from_bytes(sha256(name.encode()).digest()[:7], "big")
            self._count(relay, t_ms, 2 * offset, PoolCount(event.demand, is_new, True))
            return None
        chosen, trains = None, has_scale
        for level in (WIDE, NARROW):
            pool_key = pool_of(key, level)
            last_use = 2 * offset + (level == NARROW)
            pool = self._count(pool_key, t_ms, last_use, PoolCount(event.demand, is_new, trains))
            if self._is_alarmed(pool, level, t_ms) and event.is_newcomer:
                if level == WIDE and self.shadow:
                    self.shadowed += 1
                else:
                    chosen = chosen or pool_key
            trains = trains and not pool.alarmed  # nor does a /24 inside an alarmed /16
        return chosen if chosen is None or self._may_throttle(t_ms) else None

    def _may_throttle(self, t_ms: int) -> bool:
        """Return True while the decayed count of throttles (tau one hour) is below 4,096; the detector counts them."""
        if t_ms > self.throttles_ms:
            self.throttles *= math.exp(-(t_ms - self.throttles_ms) / HOUR_MS)
            self.throttles_ms = t_ms
        self.over_limit += self.throttles >= 4096
        return self.throttles < 4096

    def _count(self, key: int, t_ms: int, last_use: int, count: PoolCount) -> OraclePool:
        """Count in one pool: V = V · exp(-dt/1 h) + d, K likewise with new senders.

        A new pool replaces the one of its set of eight that was used longest ago.
        """
        level, today = key >> 56, t_ms // DAY_MS
        ways = self._set(key)
        if key not in ways:
            if len(ways) == WAYS:
                del ways[min(ways, key=lambda each: ways[each].last_use)]
            ways[key] = self._new_pool(level, t_ms, count.trains)
        pool = ways[key]
        pool.last_use = last_use
        if level != RELAY and today > pool.day:
            self._close(pool, level, today - pool.day)
            self._open(pool, level, today, count.trains)
        dt_ms = max(0, t_ms - pool.last_ms)
        pool.volume = single((pool.volume * math.exp(-dt_ms / HOUR_MS) if dt_ms else pool.volume) + count.demand)
        pool.keys = single((pool.keys * math.exp(-dt_ms / HOUR_MS) if dt_ms else pool.keys) + count.is_new)
        pool.last_ms = max(pool.last_ms, t_ms)
        pool.peak = max(pool.peak, pool.volume)
        if count.trains and pool.learning and not pool.alarmed:
            self.usual[level].update(pool)
        return pool

    def _new_pool(self, level: int, t_ms: int, learning: bool) -> OraclePool:
        pool = OraclePool(last_ms=t_ms, alarm_ms=t_ms - ALARM_LASTS_MS)
        if level != RELAY:
            pool.mean = single(self.usual[level].mean)
            pool.variance = single(self.usual[level].deviation ** 2)
            self._open(pool, level, t_ms // DAY_MS, learning)
        return pool

    def _open(self, pool: OraclePool, level: int, today: int, learning: bool) -> None:
        pool.day, pool.peak, pool.bin, pool.alarmed, pool.learning = today, 0.0, 0, False, learning
        if learning:
            self.usual[level].open_day()

    def _close(self, pool: OraclePool, level: int, idle_days: int) -> None:
        """Fold the day's peak into log mean and variance over w = min(w + 1, 60) days.

        A day with an alarm counts as B at most, any other as the alarm's line at most.
        """
        usual = self.usual_volume(pool, level)
        learned = min(pool.peak, usual if pool.alarmed else FACTOR[level] * usual)
        weight = min(pool.weight + 1.0, 60.0)
        off = math.log(1.0 + learned) - pool.mean
        pool.mean = single(pool.mean + off / weight)
        pool.variance = single((1.0 - 1.0 / weight) * (pool.variance + off * off / weight))
        if idle_days > 7:
            weight = max(4.0, weight * math.exp(-(idle_days - 7) / 30))
        pool.weight = single(weight)

    def _is_alarmed(self, pool: OraclePool, level: int, t_ms: int) -> bool:
        """Return True if the pool is in alarm, and record it."""
        wanted = self.new_keys[level]
        suspicious = pool.keys >= wanted or t_ms - pool.alarm_ms < ALARM_LASTS_MS
        if not wanted or not suspicious or pool.volume <= FACTOR[level] * self.usual_volume(pool, level):
            return False
        pool.alarmed, pool.alarm_ms = True, max(pool.alarm_ms, t_ms)
        return True
