"""The detector of one partition in plain Python: one event at a time, one object a key, every formula in its own function.

`PartitionOracle` is the twin that the compiled detector must equal: verdicts, rows and partition state after every event.
It judges by being readable, at about 100,000 events a second, and shares nothing with the kernels.

Units: times are whole ms since the epoch, days are UTC days (ms // 86,400,000), counters are messages, rates messages an
hour unless named otherwise. Everything indexed by scale is in the order 1 h, 6 h, 24 h, 10 min, 1 min; the cohort knows the
first three. Arithmetic is float64; what a row keeps as float32 is rounded when it is stored (`single`) and read back as
float64, never rounded in between. `tests.oracles.senders` and `tests.oracles.site` hold the formulas.
"""

from __future__ import annotations

import math

from tests.oracles.guard import Guard
from tests.oracles.pools import YOUNG_MS, Crowds
from tests.oracles.senders import (
    DAY_MS,
    EACH,
    FAST_TERM_MS,
    HOUR_MS,
    MOST_COUNT,
    PROBATION_DAYS,
    SCALES,
    TAU_MS,
    OracleRow,
    add_demand,
    allowed_rate,
    burst_of,
    capped,
    close_day,
    count_outcome,
    demand_of,
    limits_of,
    single,
)
from tests.oracles.site import Books, Cohort
from tests.oracles.verdicts import Verdict


class PartitionOracle:
    """One partition: an independent site with its rows, its clock and its cohort.

    ``threshold`` is the knob's T; ``window_ms`` how far an event's own time may lie from its record's before the record's is
    taken; ``learning_ms`` how long a new site may watch before it decides, ``decides`` False if it only ever watches;
    ``guard`` trips, or is None."""

    def __init__(
        self,
        threshold: float,
        window_ms: int,
        crowds: Crowds | None = None,
        learning_ms: int = 0,
        decides: bool = True,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard
        self.crowds = crowds or Crowds()
        self.threshold = threshold
        self.window_ms = window_ms
        self.decides = decides
        self.rows: dict[int, OracleRow] = {}
        self.cohort = Cohort()
        self.books = Books(threshold, learning_ms)
        self.shadows = 0
        self.clock_ms = -1
        self.late = 0
        self.live: set[int] = set()
        self._next_lapse_ms: float = math.inf

    def apply(
        self, offset: int, ts_ms: int, record_ms: int | None, key: int, messages: int, outcome: str
    ) -> list[Verdict]:
        """One event, in offset order; ``outcome`` "accepted", "deferred" or "rejected". What it causes, in order."""
        t_ms = self._event_time(ts_ms, record_ms)
        self._turn_clock(t_ms)
        verdicts = self._withdraw(offset) + self._lapse(offset)
        first = key not in self.rows
        row = self.rows.get(key) or self.admitted(key, t_ms, messages, outcome)
        if row is None:
            return verdicts + self.stranger(offset, t_ms, key, messages, outcome)
        today = t_ms // DAY_MS
        if today > row.day:
            close_day(row, today - row.day, self.cohort.lnew, row.day < self.books.decides_from)
            row.day = today
            if row.active_days > PROBATION_DAYS:
                self.books.book(row)
        last_ms, dt_ms = row.last_ms, max(0, t_ms - row.last_ms)
        demand = demand_of(row, messages, outcome)
        add_demand(row, t_ms, demand)
        count_outcome(row, messages, outcome)
        if row.until_ms > t_ms:
            tokens = row.tokens + row.rate_per_h * dt_ms / HOUR_MS
            row.tokens = single(min(burst_of(row.rate_per_h), tokens))
        self.cohort.follow(row, t_ms)
        pool = self._crowd(offset, t_ms, key, row, (demand, first))
        said = self._decide(offset, t_ms, key, row, pool) if outcome != "deferred" else []
        self._account(t_ms, row, messages, outcome)
        if self.guard and outcome == "accepted" and row.active_days > PROBATION_DAYS:
            free = key not in self.live or row.passes
            self.guard.accepted(last_ms, self.clock_ms, free, self._exceeded(row) != [])
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

    def deciding(self) -> bool:
        """Whether verdicts are given: neither learning nor told to watch."""
        return self.decides and self.books.deciding()

    def _turn_clock(self, t_ms: int) -> None:
        if self.cohort.first_ms < 0:
            self.cohort.first_ms = t_ms
            self.books.open(t_ms)
        self.clock_ms = max(self.clock_ms, t_ms)
        if self.clock_ms // DAY_MS > self.books.day:
            self.books.close(self.clock_ms // DAY_MS, self.clock_ms, self.cohort)
        if self.guard:
            self.guard.turn(self.clock_ms)

    def _withdraw(self, offset: int) -> list[Verdict]:
        """What was decided on known senders since the excess began that has tripped the guard is taken back, newest first."""
        found = []
        while self.guard and self.guard.leaving:
            key = self.guard.leaving.pop()
            if key in self.live and not self.rows[key].passes:
                self.live.remove(key)
                self.guard.withdrawn += 1
                found.append(Verdict("release", key, self.clock_ms, self.rows[key].until_ms, offset))
                self._note_next_lapse()
        return found

    def _account(self, t_ms: int, row: OracleRow, messages: int, outcome: str) -> None:
        """Accepted mail is demand; what finds no token in the bucket of a live throttle, or was deferred, is held back."""
        if outcome == "accepted":
            self.books.day_demand += messages
            self.books.demand += messages if row.active_days > PROBATION_DAYS else 0
        if row.until_ms <= t_ms:
            return
        held = messages
        if outcome != "deferred":
            passed = min(messages, math.floor(row.tokens + 1e-6))
            row.tokens = single(row.tokens - passed)
            held = messages - passed if outcome == "accepted" else 0
        row.held = min(MOST_COUNT, row.held + held)
        self.books.day_held += held

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

    def _limits(self, row: OracleRow) -> tuple[float, ...]:
        return limits_of(row, self.cohort.lnew, self.threshold * self.books.lean)

    def _exceeded(self, row: OracleRow) -> list[int]:
        limits = self._limits(row)
        return [s for s in EACH if row.counter[s] > limits[s]]

    def _trips(self, key: int, row: OracleRow) -> bool:
        """Whether a throttle of a known sender that has none is one too many."""
        counts = row.active_days > PROBATION_DAYS and key not in self.live
        return self.guard is not None and counts and self.guard.throttled(key, self.clock_ms)

    def _decide(self, offset: int, t_ms: int, key: int, row: OracleRow, pool: int | None) -> list[Verdict]:
        """A throttle when a counter is above its limit or a pool in alarm (an hour of a quarter message), unless half the term
        is left and the rate has not fallen by 20 %. A site that learns or watches keeps it to itself; the first one after
        that is fresh."""
        deciding = self.deciding() and not (self.guard and self.guard.tripped)
        limits, exceeded = self._limits(row), self._exceeded(row)
        if (not exceeded and pool is None) or (key in self.live and not deciding):
            return []
        term_ms = max([FAST_TERM_MS if pool is None else HOUR_MS] + [TAU_MS[s] for s in exceeded])
        said = key in self.live and not row.passes
        live = row.until_ms > t_ms and (said or not deciding)
        lasts = live and 2 * (row.until_ms - t_ms) < term_ms
        own = allowed_rate(row, limits, exceeded, lasts, self.cohort.lnew) if exceeded else math.inf
        rate_per_h = own if pool is None else min(own, 0.25)
        freed = capped(row) and rate_per_h > 1.25 * row.rate_per_h
        if live and not lasts and not freed and rate_per_h > 0.8 * row.rate_per_h:
            return []
        deciding = deciding and (live or not self._trips(key, row))
        row.tokens = single(min(burst_of(rate_per_h), row.tokens if live else math.inf))
        row.passes = False
        row.until_ms = max(row.until_ms, t_ms + term_ms)
        row.rate_per_h = single(rate_per_h)
        if not deciding:
            self.shadows += 1
            return []
        self.crowds.throttles += pool is not None
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
                burst=burst_of(row.rate_per_h),
                threshold=self.threshold * self.books.lean,
                first_seen_ms=1000 * row.first_seen_s,
                pool=pool or 0,
                crowd=self.crowds.evidence(pool),
                reason="pool" if pool else "probation" if row.active_days <= PROBATION_DAYS else "volume",
                scales=tuple(SCALES[s] for s in exceeded),
                counters=tuple(row.counter),
                limits=limits,
                peaks=tuple(row.memory),
                active_days=row.active_days,
            )
        ]
