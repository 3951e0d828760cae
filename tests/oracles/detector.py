"""The detector of one partition in plain Python: one event at a time, one object per sender, every formula in a function.

`PartitionOracle` is the twin that the compiled detector must equal: verdicts, rows and partition state after every event.
It is made to be read, processes about 100,000 events a second, and shares nothing with the kernels.

Units: times are whole ms since the epoch, days are UTC days (ms // 86,400,000), counters are messages, rates messages an
hour unless named otherwise. Everything indexed by scale is in the order 1 h, 6 h, 24 h, 10 min, 1 min; the cohort has the
first three. Arithmetic is float64; a row's float32 is rounded when it is stored (`single`) and read back as float64, never
rounded in between. `tests.oracles.senders` and `tests.oracles.site` have the formulas.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tests.oracles.breaker import BreakerOracle
from tests.oracles.pools import YOUNG_MS, OraclePools, YoungEvent
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
    close_day,
    count_outcome,
    demand_of,
    is_capped,
    limits_of,
    single,
)
from tests.oracles.site import Cohort, SiteBudget
from tests.oracles.verdicts import Verdict


class PartitionOracle:
    """One partition: an independent site with its rows, its clock and its cohort. Its table has no limit."""

    def __init__(
        self,
        threshold: float,  # T before the site's scale
        window_ms: int,  # greatest distance of an event's own time from its record's
        pools: OraclePools | None = None,
        learning_ms: int = 0,  # longest time that a new site learns before it decides
        decides: bool = True,  # False: it only watches
        breaker: BreakerOracle | None = None,
    ) -> None:
        self.breaker = breaker
        self.pools = pools or OraclePools()
        self.threshold = threshold
        self.window_ms = window_ms
        self.decides = decides
        self.rows: dict[int, OracleRow] = {}
        self.cohort = Cohort()
        self.budget = SiteBudget(threshold, learning_ms)
        self.suppressed = 0
        self.clock_ms = -1
        self.late = 0
        self.live: set[int] = set()  # throttled senders
        self._next_expiry_ms: float = math.inf

    def apply(
        self, offset: int, ts_ms: int, record_ms: int | None, key: int, messages: int, outcome: str
    ) -> list[Verdict]:
        """Apply one event, in offset order; `outcome` is "accepted", "deferred" or "rejected". Return its verdicts in order."""
        t_ms = self._event_time(ts_ms, record_ms)
        self._advance_clock(t_ms)
        verdicts = self._withdraw_suspects(offset) + self._expire(offset)
        is_first = key not in self.rows
        row = self.rows.get(key) or self.admit(key, t_ms, messages, outcome)
        if row is None:
            return verdicts + self.untracked_event(offset, t_ms, key, messages, outcome)
        today = t_ms // DAY_MS
        if today > row.day:
            close_day(row, today - row.day, self.cohort.lnew, row.day < self.budget.decides_from)
            row.day = today
            if row.active_days > PROBATION_DAYS:
                self.budget.charge(row)
        last_ms, dt_ms = row.last_ms, max(0, t_ms - row.last_ms)
        demand = demand_of(row, messages, outcome)
        add_demand(row, t_ms, demand)
        count_outcome(row, messages, outcome)
        if row.until_ms > t_ms:
            tokens = row.tokens + row.rate_per_h * dt_ms / HOUR_MS
            row.tokens = single(min(burst_of(row.rate_per_h), tokens))
        self.cohort.update_newcomer(row, t_ms)
        event = YoungEvent(demand, is_first, row.active_days <= PROBATION_DAYS)
        pool = self._evaluate_pools(offset, t_ms, key, row, event)
        decision = self._decide(offset, t_ms, key, row, pool) if outcome != "deferred" else []
        self._account(t_ms, row, messages, outcome)
        if self.breaker and outcome == "accepted" and row.active_days > PROBATION_DAYS:
            is_free = key not in self.live or row.passes
            self.breaker.count_sender(last_ms, self.clock_ms, is_free, self._exceeded(row) != [])
        return verdicts + (decision or self.grant_pass(offset, t_ms, key, row))

    def admit(self, key: int, t_ms: int, messages: int, outcome: str) -> OracleRow | None:
        """Return a row for a new sender, None if it stays untracked: never here, as this table has no limit."""
        return self._insert(key, t_ms)

    def untracked_event(self, offset: int, t_ms: int, key: int, messages: int, outcome: str) -> list[Verdict]:
        """Return the verdicts of an event of a sender without a row."""
        raise AssertionError(f"{key} has no row")

    def grant_pass(self, offset: int, t_ms: int, key: int, row: OracleRow) -> list[Verdict]:
        """Return the verdicts of an event that is no excess of its own sender."""
        return []

    def _evaluate_pools(self, offset: int, t_ms: int, key: int, row: OracleRow, event: YoungEvent) -> int | None:
        """Return the pool that throttles the sender. Only demand and first events of young senders count."""
        if t_ms - 1000 * row.first_seen_s >= YOUNG_MS or not (event.demand > 0 or event.is_first):
            return None
        return self.pools.evaluate(key, t_ms, t_ms - self.cohort.first_ms, offset, event)

    def is_deciding(self) -> bool:
        """Return True if verdicts are published: the site neither learns nor only watches."""
        return self.decides and self.budget.is_deciding()

    def _advance_clock(self, t_ms: int) -> None:
        if self.cohort.first_ms < 0:
            self.cohort.first_ms = t_ms
            self.budget.open(t_ms)
        self.clock_ms = max(self.clock_ms, t_ms)
        if self.clock_ms // DAY_MS > self.budget.day:
            self.budget.close(self.clock_ms // DAY_MS, self.clock_ms, self.cohort)
        if self.breaker:
            self.breaker.rearm(self.clock_ms)

    def _withdraw_suspects(self, offset: int) -> list[Verdict]:
        """Release the throttles of known senders since the excess began that tripped the breaker, newest first."""
        releases = []
        while self.breaker and self.breaker.pending:
            key = self.breaker.pending.pop()
            if key in self.live and not self.rows[key].passes:
                self.live.remove(key)
                self.breaker.withdrawn += 1
                releases.append(Verdict("release", key, self.clock_ms, self.rows[key].until_ms, offset))
                self._update_next_expiry()
        return releases

    def _account(self, t_ms: int, row: OracleRow, messages: int, outcome: str) -> None:
        """Add accepted mail to the demand, and count deferred messages: reported as such, or without a token of a throttle."""
        if outcome == "accepted":
            self.budget.day_demand += messages
            self.budget.demand += messages if row.active_days > PROBATION_DAYS else 0
        if row.until_ms <= t_ms:
            return
        deferred = messages
        if outcome != "deferred":
            passed = min(messages, math.floor(row.tokens + 1e-6))
            row.tokens = single(row.tokens - passed)
            deferred = messages - passed if outcome == "accepted" else 0
        row.deferred = min(MOST_COUNT, row.deferred + deferred)
        self.budget.day_deferred += deferred

    def _event_time(self, ts_ms: int, record_ms: int | None) -> int:
        if record_ms is None or abs(ts_ms - record_ms) <= self.window_ms:
            return ts_ms
        self.late += 1
        return record_ms

    def _expire(self, offset: int) -> list[Verdict]:
        """Release the throttles that have expired by the partition's clock, by end, then by key."""
        if self._next_expiry_ms > self.clock_ms:
            return []
        ended = sorted((self.rows[k].until_ms, k) for k in self.live if self.rows[k].until_ms <= self.clock_ms)
        for _, key in ended:
            self.live.remove(key)
            self.rows[key].passes = False
        self._update_next_expiry()
        return [Verdict("release", key, self.clock_ms, until_ms, offset) for until_ms, key in ended]

    def _update_next_expiry(self) -> None:
        self._next_expiry_ms = min((self.rows[k].until_ms for k in self.live), default=math.inf)

    def _insert(self, key: int, t_ms: int) -> OracleRow:
        """Insert a newcomer's row: m = ln(1 + Q50), from the quantiles read before this sender came."""
        typical = single(math.log(1.0 + self.cohort.q50))
        row = OracleRow(last_ms=t_ms, first_seen_s=t_ms // 1000, day=t_ms // DAY_MS, typical=typical)
        self.rows[key] = row
        if self.pools.relay(key) is None:
            self.cohort.add_newcomer(row, key, t_ms)
        return row

    def _limits(self, row: OracleRow) -> tuple[float, ...]:
        return limits_of(row, self.cohort.lnew, self.threshold * self.budget.threshold_scale)

    def _exceeded(self, row: OracleRow) -> list[int]:
        limits = self._limits(row)
        return [s for s in EACH if row.counter[s] > limits[s]]

    def _trips(self, key: int, row: OracleRow) -> bool:
        """Return True if throttling a known sender that has no throttle trips the breaker."""
        counts = row.active_days > PROBATION_DAYS and key not in self.live
        return self.breaker is not None and counts and self.breaker.count_throttle(key, self.clock_ms)

    def _decide(self, offset: int, t_ms: int, key: int, row: OracleRow, pool: int | None) -> list[Verdict]:
        """Throttle if a counter is above its limit or a pool in alarm (for an hour, at a quarter message an hour).

        Not if half of the term is left and the rate has not fallen by 20 %. A site that learns or watches suppresses the
        verdict; the first one afterwards counts as new.
        """
        deciding = self.is_deciding() and not (self.breaker and self.breaker.is_open)
        limits, exceeded = self._limits(row), self._exceeded(row)
        if (not exceeded and pool is None) or (key in self.live and not deciding):
            return []
        term_ms = max([FAST_TERM_MS if pool is None else HOUR_MS] + [TAU_MS[s] for s in exceeded])
        published = key in self.live and not row.passes
        live = row.until_ms > t_ms and (published or not deciding)
        lasts = live and 2 * (row.until_ms - t_ms) < term_ms
        own = allowed_rate(row, limits, exceeded, lasts, self.cohort.lnew) if exceeded else math.inf
        rate_per_h = own if pool is None else min(own, 0.25)
        freed = is_capped(row) and rate_per_h > 1.25 * row.rate_per_h
        if live and not lasts and not freed and rate_per_h > 0.8 * row.rate_per_h:
            return []
        deciding = deciding and (live or not self._trips(key, row))
        row.tokens = single(min(burst_of(rate_per_h), row.tokens if live else math.inf))
        row.passes = False
        row.until_ms = max(row.until_ms, t_ms + term_ms)
        row.rate_per_h = single(rate_per_h)
        if not deciding:
            self.suppressed += 1
            return []
        self.pools.throttles += pool is not None
        self.live.add(key)
        self._update_next_expiry()
        verdict = Verdict(
            kind="throttle",
            key=key,
            issued_ms=t_ms,
            until_ms=row.until_ms,
            offset=offset,
            pool=pool or 0,
            pool_evidence=self.pools.evidence(pool),
            scales=tuple(SCALES[s] for s in exceeded),
            limits=limits,
        )
        return [self._with_row(verdict, row)]

    def _with_row(self, verdict: Verdict, row: OracleRow) -> Verdict:
        """Return a throttle with the fields that its sender's row has."""
        probation = row.active_days <= PROBATION_DAYS
        return replace(
            verdict,
            rate_per_min=row.rate_per_h / 60.0,
            burst=burst_of(row.rate_per_h),
            threshold=self.threshold * self.budget.threshold_scale,
            first_seen_ms=1000 * row.first_seen_s,
            reason="pool" if verdict.pool else "probation" if probation else "volume",
            counters=tuple(row.counter),
            peaks=tuple(row.memory),
            active_days=row.active_days,
        )
