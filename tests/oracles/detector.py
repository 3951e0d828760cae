"""The detector of one partition in plain Python: one event at a time, one object a key, every formula in its own function.

`PartitionOracle` is the twin that the compiled detector must equal: verdicts, rows and partition state after every event.
It judges by being readable, at about 100,000 events a second, and shares nothing with the kernels.

Units: times are whole ms since the epoch, days are UTC days (ms // 86,400,000), counters are messages, rates messages an
hour unless named otherwise. Everything indexed by scale is in the order 1 h, 6 h, 24 h. Arithmetic is float64; what a row
keeps as float32 is rounded when it is stored (`single`) and read back as float64, never rounded in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from tests.oracles.pools import YOUNG_MS, Crowds
from tests.oracles.verdicts import Verdict

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCALES = ("1h", "6h", "24h")
EACH = (0, 1, 2)
TAU_HOURS = (1, 6, 24)
TAU_MS = (HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS)

KNOWN_GROWTH = (4.0, 3.0, 3.0)
NEWCOMER_FACTOR = (10.0, 20.0, 20.0)
PROBATION_DAYS = 3
PROBATION_GROWTH = 2.75
FLOOR_SHARE = 0.8
FLOOR_AGE_DAYS = 50
FLOOR_LEAST = 0.3
MEMORY_HALF_LIFE_DAYS = 120
CLIP = 4.0
BRAKE_FROM = 8.0
BRAKE_GROWTH = 1.5
REJECTED_WEIGHT = 6
WEIGHT_FIRST = 4.0
WEIGHT_MOST = 60.0
IDLE_DAYS = 7
IDLE_FADE_DAYS = 30

LEARN_AFTER_MS = 2 * DAY_MS
NEWCOMER_MS = DAY_MS
BINS = 96
BINS_PER_OCTAVE = 6
PRIOR_BINS = range(1, 40)
HALVE_EVERY = 500
REFRESH_EVERY = 32
CONTRIBUTION_CAP = 1.5
MOST_COUNT = 65_535


def single(x: float) -> float:
    """The float64 that a float32 field gives back after ``x`` was stored in it."""
    return float(np.float32(x))


def bin_of(x: float) -> int:
    """bin(x) = floor(6 log2(1 + x)), at most the last of the 96 bins."""
    return min(BINS - 1, math.floor(BINS_PER_OCTAVE * math.log2(1.0 + x)))


def upper_edge(b: int) -> float:
    """Where bin ``b`` ends: 2^((b + 1)/6) - 1."""
    return float(2.0 ** ((b + 1) / BINS_PER_OCTAVE)) - 1.0


def prior() -> list[float]:
    """A site's histogram before its first newcomer: 12 · 0.85^b in bins 1..39."""
    return [12.0 * 0.85**b if b in PRIOR_BINS else 0.0 for b in range(BINS)]


def quantile(histogram: list[float], q: float) -> float:
    """Upper edge of the first bin at which the running sum reaches ``q`` of the whole."""
    wanted = q * list(accumulate(histogram))[-1]  # not sum(): from Python 3.12 on that rounds otherwise
    reached = 0.0
    for b, held in enumerate(histogram):
        reached += held
        if reached >= wanted:
            return upper_edge(b)
    return upper_edge(BINS - 1)


@dataclass
class OracleRow:
    """What is remembered of one key; a fresh one is a newcomer at its first event. Lists are by scale."""

    last_ms: int
    first_seen_s: int
    day: int
    typical: float
    until_ms: int = 0
    active_days: int = 0
    accepted: int = 0
    rejected: int = 0
    counter: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    peak: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    memory: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    weight: float = WEIGHT_FIRST
    rate_per_h: float = 0.0
    burst: float = 0.0
    bin: list[int] = field(default_factory=lambda: [0, 0, 0])
    counted: bool = False
    passes: bool = False


class Cohort:
    """What a newcomer of this site usually does: per scale a histogram of the first-24-hour peaks, and ceilings from it."""

    def __init__(self) -> None:
        self.first_ms = -1
        self.hist = [prior() for _ in EACH]
        self.new_keys = 0
        self.counted = 0
        self.since_halving = 0
        self.neighbours: dict[int, tuple[float, int]] = {}
        self.read()

    def read(self) -> None:
        """Q90 a scale, at least one message, Q50 at 1 h, and the newcomer's ceiling Lnew_s = nu_s · Q90_s, nu = 10, 20, 20."""
        self.q90 = [max(1.0, quantile(self.hist[s], 0.90)) for s in EACH]
        self.q50 = quantile(self.hist[0], 0.50)
        self.lnew = [NEWCOMER_FACTOR[s] * self.q90[s] for s in EACH]

    def admit(self, row: OracleRow, key: int, t_ms: int) -> None:
        """A new key: counted, from bin 0 up, once the site is two days old and if it is among the first four of its /16
        (IPv6: /48) in a decayed day. Every 500 counted halve the past."""
        self.new_keys += 1
        few = self._among_few(key >> 16, t_ms)
        if few and t_ms - self.first_ms >= LEARN_AFTER_MS:
            self._count(row)
        if self.new_keys % REFRESH_EVERY == 0:
            self.read()

    def _among_few(self, neighbourhood: int, t_ms: int) -> bool:
        """1,024 leaky counts (tau one day, f32) of new keys, by the low bits of splitmix64's finaliser of the prefix."""
        x = neighbourhood
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        slot = (x ^ (x >> 31)) % 1024
        count, last_ms = self.neighbours.get(slot, (0.0, 0))
        if t_ms > last_ms:
            count *= math.exp(-(t_ms - last_ms) / DAY_MS)
        count = single(count + 1.0)
        self.neighbours[slot] = (count, max(last_ms, t_ms))
        return count <= 4.0

    def _count(self, row: OracleRow) -> None:
        row.counted = True
        self.counted += 1
        for s in EACH:
            self.hist[s][0] += 1.0
        self.since_halving += 1
        if self.since_halving == HALVE_EVERY:
            self.since_halving = 0
            self.hist = [[0.5 * held for held in histogram] for histogram in self.hist]

    def follow(self, row: OracleRow, t_ms: int) -> None:
        """Within the first 24 h move the key's unit up to the bin of min(peak, 1.5 Q90), unless mostly rejected."""
        newcomer = t_ms - 1000 * row.first_seen_s < NEWCOMER_MS
        if not (row.counted and newcomer and row.rejected <= row.accepted):
            return
        for s in EACH:
            b = bin_of(min(row.peak[s], CONTRIBUTION_CAP * self.q90[s]))
            if b > row.bin[s]:
                take = min(1.0, self.hist[s][row.bin[s]])
                self.hist[s][row.bin[s]] -= take
                self.hist[s][b] += take
                row.bin[s] = b


def known_growth(scale: int, active_days: int) -> float:
    """G_s · (1 + 3/A): how far beyond its remembered peak a known sender may go."""
    return KNOWN_GROWTH[scale] * (1.0 + 3.0 / active_days)


def floor_of(lnew: float, active_days: int, threshold: float) -> float:
    """What every known sender may do: T · Lnew_s · 0.8 · max(0.3, 1/sqrt(1 + A/50))."""
    tenure = max(FLOOR_LEAST, 1.0 / math.sqrt(1.0 + active_days / FLOOR_AGE_DAYS))
    return threshold * lnew * FLOOR_SHARE * tenure


def limits_of(row: OracleRow, lnew: list[float], threshold: float) -> tuple[float, ...]:
    """L_s: T · Lnew_s for a newcomer, max(2.75 M_s, floor) on probation, max(T^1/4 · G_s (1 + 3/A) · M_s, floor) after."""
    days = row.active_days
    if days == 0:
        return tuple(threshold * lnew[s] for s in EACH)
    floors = [floor_of(lnew[s], days, threshold) for s in EACH]
    if days <= PROBATION_DAYS:
        return tuple(max(PROBATION_GROWTH * row.memory[s], floors[s]) for s in EACH)
    return tuple(max(threshold**0.25 * known_growth(s, days) * row.memory[s], floors[s]) for s in EACH)


def closing_limit(row: OracleRow, scale: int, lnew: float) -> float:
    """L*_s of the day that closes, at T = 1 with floor 0.8 Lnew_s; Lnew_s for a key's first day."""
    days = row.active_days
    if days == 0:
        return lnew
    growth = PROBATION_GROWTH if days <= PROBATION_DAYS else known_growth(scale, days)
    return max(growth * row.memory[scale], FLOOR_SHARE * lnew)


def learned_peak(row: OracleRow, scale: int, lnew: float) -> float:
    """E_s: the day's peak, clipped to 4 L*_s, and beyond 8 Lnew_s braked to 1.5 times the memory."""
    learned = min(row.peak[scale], CLIP * closing_limit(row, scale, lnew))
    if learned > BRAKE_FROM * lnew:
        learned = max(min(learned, BRAKE_GROWTH * row.memory[scale]), BRAKE_FROM * lnew)
    return learned


def close_day(row: OracleRow, idle_days: int, lnew: list[float]) -> None:
    """End the row's day, ``idle_days`` >= 1 after it: M_s = max(M_s · 2^(-idle/120), E_s), and the typical busy hour.

    m moves to ln(1 + E_1h) by 1/w with w = min(w + 1, 60); idle days beyond 7 fade w by exp(-(idle - 7)/30), not below 4."""
    learned = [learned_peak(row, s, lnew[s]) for s in EACH]
    kept = 2.0 ** (-idle_days / MEMORY_HALF_LIFE_DAYS)
    row.memory = [single(max(row.memory[s] * kept, learned[s])) for s in EACH]
    row.peak = [0.0, 0.0, 0.0]
    weight = min(row.weight + 1.0, WEIGHT_MOST)
    row.typical = single(row.typical + (math.log(1.0 + learned[0]) - row.typical) / weight)
    if idle_days > IDLE_DAYS:
        weight = max(WEIGHT_FIRST, weight * math.exp(-(idle_days - IDLE_DAYS) / IDLE_FADE_DAYS))
    row.weight = single(weight)
    row.active_days = min(MOST_COUNT, row.active_days + 1)


def demand_of(row: OracleRow, messages: int, outcome: str) -> int:
    """d: nothing for a retry, sixfold when rejected and nothing of the key was ever accepted, else the messages."""
    if outcome == "deferred":
        return 0
    if outcome == "rejected" and row.accepted == 0:
        return REJECTED_WEIGHT * messages
    return messages


def add_demand(row: OracleRow, t_ms: int, demand: int) -> None:
    """c_s = c_s · exp(-dt/tau_s) + d, dt >= 0 since the key's latest event; the day's peak follows."""
    dt_ms = max(0, t_ms - row.last_ms)
    for s in EACH:
        decayed = row.counter[s] * math.exp(-dt_ms / TAU_MS[s]) if dt_ms else row.counter[s]
        row.counter[s] = single(decayed + demand)
        row.peak[s] = max(row.peak[s], row.counter[s])
    row.last_ms = max(row.last_ms, t_ms)


def count_outcome(row: OracleRow, messages: int, outcome: str) -> None:
    """Messages ever accepted and ever rejected, up to 65,535 each."""
    if outcome == "accepted":
        row.accepted = min(MOST_COUNT, row.accepted + messages)
    elif outcome == "rejected":
        row.rejected = min(MOST_COUNT, row.rejected + messages)


def allowed_rate(row: OracleRow, limits: tuple[float, ...], exceeded: list[int]) -> float:
    """Messages an hour: exp(m) - 1 + 1/2 once a day has closed, before that the least of L_s/(4 tau_s) exceeded."""
    if row.active_days >= 1:
        return math.exp(row.typical) - 1.0 + 0.5
    return min(limits[s] / (4.0 * TAU_HOURS[s]) for s in exceeded)


class PartitionOracle:
    """One partition: an independent site with its rows, its clock and its cohort.

    ``threshold`` is T; ``window_ms`` how far an event's own time may lie from its record's before the record's is taken."""

    def __init__(self, threshold: float, window_ms: int, crowds: Crowds | None = None) -> None:
        self.crowds = crowds or Crowds()
        self.threshold = threshold
        self.window_ms = window_ms
        self.rows: dict[int, OracleRow] = {}
        self.cohort = Cohort()
        self.clock_ms = -1
        self.late = 0
        self.live: set[int] = set()
        self._next_lapse_ms: float = math.inf

    def apply(
        self, offset: int, ts_ms: int, record_ms: int | None, key: int, messages: int, outcome: str
    ) -> list[Verdict]:
        """One event, in offset order; ``outcome`` "accepted", "deferred" or "rejected". What it causes, in order."""
        t_ms = self._event_time(ts_ms, record_ms)
        if self.cohort.first_ms < 0:
            self.cohort.first_ms = t_ms
        self.clock_ms = max(self.clock_ms, t_ms)
        verdicts = self._lapse(offset)
        first = key not in self.rows
        row = self.rows.get(key) or self.admitted(key, t_ms, messages, outcome)
        if row is None:
            return verdicts + self.stranger(offset, t_ms, key, messages, outcome)
        today = t_ms // DAY_MS
        if today > row.day:
            close_day(row, today - row.day, self.cohort.lnew)
            row.day = today
        demand = demand_of(row, messages, outcome)
        add_demand(row, t_ms, demand)
        count_outcome(row, messages, outcome)
        self.cohort.follow(row, t_ms)
        pool = self._crowd(offset, t_ms, key, row, (demand, first))
        said = self._decide(offset, t_ms, key, row, pool) if outcome != "deferred" else []
        return verdicts + (said or self.passed(offset, t_ms, key, row))

    def admitted(self, key: int, t_ms: int, messages: int, outcome: str) -> OracleRow | None:
        """A row for a new key, None when it has to do without: here never, there is no end to this table."""
        return self._insert(key, t_ms)

    def stranger(self, offset: int, t_ms: int, key: int, messages: int, outcome: str) -> list[Verdict]:
        """What an event of a key without a row causes."""
        raise AssertionError(f"{key} has no row")

    def passed(self, offset: int, t_ms: int, key: int, row: OracleRow) -> list[Verdict]:
        """What an event causes that is no excess of its key's own."""
        return []

    def _crowd(self, offset: int, t_ms: int, key: int, row: OracleRow, event: tuple[float, bool]) -> int | None:
        """The pool that throttles the key: asked about a young key's first event, and whatever is demand."""
        demand, first = event
        if t_ms - 1000 * row.first_seen_s >= YOUNG_MS or not (demand > 0 or first):
            return None
        newcomer = row.active_days <= PROBATION_DAYS
        return self.crowds.take(key, t_ms, t_ms - self.cohort.first_ms, offset, (demand, first, newcomer))

    def _event_time(self, ts_ms: int, record_ms: int | None) -> int:
        if record_ms is None or abs(ts_ms - record_ms) <= self.window_ms:
            return ts_ms
        self.late += 1
        return record_ms

    def _lapse(self, offset: int) -> list[Verdict]:
        """Release what has reached its end by the partition's clock, earliest end first, then by key."""
        if self._next_lapse_ms > self.clock_ms:
            return []
        ended = sorted((self.rows[k].until_ms, k) for k in self.live if self.rows[k].until_ms <= self.clock_ms)
        for _, key in ended:
            self.live.remove(key)
            self.rows[key].passes = False
        self._note_next_lapse()
        return [Verdict("release", key, self.clock_ms, until_ms, offset) for until_ms, key in ended]

    def _note_next_lapse(self) -> None:
        self._next_lapse_ms = min((self.rows[k].until_ms for k in self.live), default=math.inf)

    def _insert(self, key: int, t_ms: int) -> OracleRow:
        """A newcomer's row: m = ln(1 + Q50), from the quantiles read before this key came."""
        typical = single(math.log(1.0 + self.cohort.q50))
        row = OracleRow(last_ms=t_ms, first_seen_s=t_ms // 1000, day=t_ms // DAY_MS, typical=typical)
        self.rows[key] = row
        if self.crowds.relay(key) is None:
            self.cohort.admit(row, key, t_ms)
        return row

    def _decide(self, offset: int, t_ms: int, key: int, row: OracleRow, pool: int | None) -> list[Verdict]:
        """A throttle when a counter is above its limit or a pool in alarm (an hour of a quarter message), unless half the term
        is left and the rate has not fallen by 20 %."""
        limits = limits_of(row, self.cohort.lnew, self.threshold)
        exceeded = [s for s in EACH if row.counter[s] > limits[s]]
        if not exceeded and pool is None:
            return []
        term_ms = max([TAU_MS[s] for s in exceeded] + [HOUR_MS] * (pool is not None))
        own = allowed_rate(row, limits, exceeded) if exceeded else math.inf
        rate_per_h = own if pool is None else min(own, 0.25)
        live = key in self.live and row.until_ms > t_ms
        if live and not row.passes and 2 * (row.until_ms - t_ms) >= term_ms and rate_per_h > 0.8 * row.rate_per_h:
            return []
        self.crowds.throttles += pool is not None
        row.passes = False
        row.until_ms = max(row.until_ms, t_ms + term_ms)
        row.rate_per_h = single(rate_per_h)
        row.burst = single(max(1.0, rate_per_h))
        self.live.add(key)
        self._note_next_lapse()
        return [
            Verdict(
                kind="throttle",
                key=key,
                issued_ms=t_ms,
                until_ms=row.until_ms,
                offset=offset,
                rate_per_min=row.rate_per_h / 60.0,
                burst=row.burst,
                reason="pool" if pool else "probation" if row.active_days <= PROBATION_DAYS else "volume",
                scales=tuple(SCALES[s] for s in exceeded),
                counters=tuple(row.counter),
                limits=limits,
                peaks=tuple(row.memory),
                active_days=row.active_days,
                pool=pool or 0,
                crowd=self.crowds.evidence(pool),
                first_seen_ms=1000 * row.first_seen_s,
            )
        ]
