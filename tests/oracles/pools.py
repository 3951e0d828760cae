"""Pools of newcomers in plain Python: one object a pool, the table a dictionary for each of its sets of eight.

The part of the detector's twin that `tests.oracles.detector` asks about every event of a key younger than a week. Units and
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

import numpy as np

from tests.oracles.hashing import splitmix

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YOUNG_MS = 7 * DAY_MS
NARROW, WIDE, RELAY = 1, 2, 3
FACTOR = {NARROW: 4.0, WIDE: 2.0}
SPREAD = 1.2
NORMAL_Q90 = 1.2815515655446004
CROWD_STAYS_MS = DAY_MS
LEARN_AFTER_MS = 2 * DAY_MS
BINS = 96
WAYS = 8
HALVE_EVERY, REFRESH_EVERY = 500, 32


def single(x: float) -> float:
    """The float64 that a float32 field gives back after ``x`` was stored in it."""
    return float(np.float32(x))


def pool_of(key: int, level: int) -> int:
    """The pool's key: its level in the top octet, below it the address key without its last one or two octets."""
    return level << 56 | key >> 8 * level


def quantile(histogram: list[float], q: float) -> float:
    """Upper edge of the first bin at which the running sum reaches ``q`` of the whole."""
    wanted = q * list(accumulate(histogram))[-1]
    reached = list(accumulate(histogram))
    b = next((b for b in range(BINS) if reached[b] >= wanted), BINS - 1)
    return float(2.0 ** ((b + 1) / 6)) - 1.0


class Usual:
    """What pools of one level usually are on this site: a histogram of their daily peaks, log mean and deviation from it."""

    def __init__(self) -> None:
        self.hist = [12.0 * 0.85**b if 1 <= b <= 39 else 0.0 for b in range(BINS)]
        self.days = 0
        self.read()

    def read(self) -> None:
        """Mean and deviation of the log peaks, by the median and the ninth decile."""
        q50, self.q90 = quantile(self.hist, 0.5), max(1.0, quantile(self.hist, 0.9))
        self.mean = math.log(1.0 + q50)
        self.deviation = (math.log(1.0 + self.q90) - self.mean) / NORMAL_Q90

    def enter(self) -> None:
        """A pool's day begins, in bin 0."""
        self.hist[0] += 1.0
        self.days += 1
        if self.days % HALVE_EVERY == 0:
            self.hist = [0.5 * held for held in self.hist]
        if self.days % REFRESH_EVERY == 0:
            self.read()

    def follow(self, pool: OraclePool) -> None:
        """The day's unit goes to the bin of min(peak, 1.5 Q90), never back."""
        b = min(BINS - 1, math.floor(6 * math.log2(1.0 + min(pool.peak, 1.5 * self.q90))))
        if b > pool.bin:
            unit = min(1.0, self.hist[pool.bin])
            self.hist[pool.bin] -= unit
            self.hist[b] += unit
            pool.bin = b


@dataclass
class OraclePool:
    """What is remembered of one pool."""

    last_ms: int
    alarm_ms: int
    used: int = 0
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


class Crowds:
    """All pools of a partition. ``keys``: new keys that make a /24 and a /16 suspicious, 0 for never; ``most``: pools kept;
    ``relays``: announced networks by name."""

    def __init__(
        self,
        keys: tuple[float, float] = (24.0, 24.0),
        most: int = 64,
        *,
        shadow: bool = False,
        relays: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.least = {NARROW: keys[0], WIDE: keys[1]}
        self.most, self.shadow = most, shadow
        self.relays = [(ip_network(n), name) for name, listed in (relays or {}).items() for n in listed]
        self.usual = {NARROW: Usual(), WIDE: Usual()}
        self.sets: dict[int, dict[int, OraclePool]] = defaultdict(dict)
        self.shadowed = self.overcrowded = self.throttles_ms = 0
        self.throttles = 0.0

    def relay(self, key: int) -> str | None:
        """The relay that an address key belongs to."""
        four, address = key >> 32 == 0xFFFFFFFF, key & 0xFFFFFFFF
        for network, name in self.relays:
            base, spare = int(network.network_address), network.max_prefixlen - network.prefixlen
            mine = address if four else key << 64
            if (network.version == 4) == four and mine >> spare == base >> spare:
                return name
        return None

    @property
    def pools(self) -> dict[int, OraclePool]:
        """All that are held."""
        return {key: pool for held in self.sets.values() for key, pool in held.items()}

    def _set(self, key: int) -> dict[int, OraclePool]:
        """The pools among which a pool has its place."""
        return self.sets[splitmix(key, 0) % self.most // WAYS]

    def bound(self, pool: OraclePool, level: int) -> float:
        """B: exp(mean + 1.2 deviations) - 1 of the pool's own log peaks or of the site's, whichever is more."""
        own = pool.mean + SPREAD * math.sqrt(pool.variance)
        return math.exp(max(own, self.usual[level].mean + SPREAD * self.usual[level].deviation)) - 1.0

    def evidence(self, key: int | None) -> tuple[float, float, float]:
        """New keys, volume and what is usual of a pool; zeros without one."""
        if key is None:
            return 0.0, 0.0, 0.0
        pool = self._set(key)[key]
        return pool.keys, pool.volume, self.bound(pool, key >> 56)

    def take(self, key: int, t_ms: int, site_age_ms: int, offset: int, event: tuple[float, bool, bool]) -> int | None:
        """One event of a young key: (demand, the key's first, whether it is a newcomer). The pool that throttles it."""
        demand, first, newcomer = event
        grown = site_age_ms >= LEARN_AFTER_MS
        name = self.relay(key)
        if name is not None:
            relay = RELAY << 56 | int.from_bytes(sha256(name.encode()).digest()[:7], "big")
            self._count(relay, t_ms, 2 * offset, (demand, first and grown, True))
            return None
        found, teaches = None, grown
        for level in (WIDE, NARROW):
            pool_key = pool_of(key, level)
            used = 2 * offset + (level == NARROW)
            pool = self._count(pool_key, t_ms, used, (demand, first and grown, teaches))
            if self._alarm(pool, level, t_ms) and newcomer:
                if level == WIDE and self.shadow:
                    self.shadowed += 1
                else:
                    found = found or pool_key
            teaches = teaches and not pool.alarmed  # nor does a /24 in a crowd over its /16
        return found if found is None or self._may_throttle(t_ms) else None

    def _may_throttle(self, t_ms: int) -> bool:
        """Whether a leaky count of the throttles, tau one hour, is below 4,096; the detector counts them."""
        if t_ms > self.throttles_ms:
            self.throttles *= math.exp(-(t_ms - self.throttles_ms) / HOUR_MS)
            self.throttles_ms = t_ms
        self.overcrowded += self.throttles >= 4096
        return self.throttles < 4096

    def _count(self, key: int, t_ms: int, used: int, event: tuple[float, bool, bool]) -> OraclePool:
        """V = V · exp(-dt/1 h) + d, K likewise with new keys. A new pool takes the place of the one of its set of eight that
        was used longest ago."""
        level, today = key >> 56, t_ms // DAY_MS
        demand, first, teaches = event
        held = self._set(key)
        if key not in held:
            if len(held) == WAYS:
                del held[min(held, key=lambda each: held[each].used)]
            held[key] = self._fresh(level, t_ms, teaches)
        pool = held[key]
        pool.used = used
        if level != RELAY and today > pool.day:
            self._close(pool, level, today - pool.day)
            self._open(pool, level, today, teaches)
        dt_ms = max(0, t_ms - pool.last_ms)
        pool.volume = single((pool.volume * math.exp(-dt_ms / HOUR_MS) if dt_ms else pool.volume) + demand)
        pool.keys = single((pool.keys * math.exp(-dt_ms / HOUR_MS) if dt_ms else pool.keys) + first)
        pool.last_ms = max(pool.last_ms, t_ms)
        pool.peak = max(pool.peak, pool.volume)
        if teaches and pool.learning and not pool.alarmed:
            self.usual[level].follow(pool)
        return pool

    def _fresh(self, level: int, t_ms: int, learning: bool) -> OraclePool:
        pool = OraclePool(last_ms=t_ms, alarm_ms=t_ms - CROWD_STAYS_MS)
        if level != RELAY:
            pool.mean = single(self.usual[level].mean)
            pool.variance = single(self.usual[level].deviation ** 2)
            self._open(pool, level, t_ms // DAY_MS, learning)
        return pool

    def _open(self, pool: OraclePool, level: int, today: int, learning: bool) -> None:
        pool.day, pool.peak, pool.bin, pool.alarmed, pool.learning = today, 0.0, 0, False, learning
        if learning:
            self.usual[level].enter()

    def _close(self, pool: OraclePool, level: int, idle_days: int) -> None:
        """Log mean and variance over w = min(w + 1, 60) days take in the peak: no more of it than would have been an alarm,
        and of a day with one no more than was usual."""
        bound = self.bound(pool, level)
        learned = min(pool.peak, bound if pool.alarmed else FACTOR[level] * bound)
        weight = min(pool.weight + 1.0, 60.0)
        off = math.log(1.0 + learned) - pool.mean
        pool.mean = single(pool.mean + off / weight)
        pool.variance = single((1.0 - 1.0 / weight) * (pool.variance + off * off / weight))
        if idle_days > 7:
            weight = max(4.0, weight * math.exp(-(idle_days - 7) / 30))
        pool.weight = single(weight)

    def _alarm(self, pool: OraclePool, level: int, t_ms: int) -> bool:
        least = self.least[level]
        crowd = pool.keys >= least or t_ms - pool.alarm_ms < CROWD_STAYS_MS
        if not least or not crowd or pool.volume <= FACTOR[level] * self.bound(pool, level):
            return False
        pool.alarmed, pool.alarm_ms = True, max(pool.alarm_ms, t_ms)
        return True
