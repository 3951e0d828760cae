"""A site in plain Python: its newcomers, its budget, its learning. Twin of cohort and budget."""

from __future__ import annotations

import math
from itertools import accumulate

from tests.oracles.hashing import splitmix
from tests.oracles.senders import DAY_MS, DAY_SCALE, PROBATION_DAYS, SLOW, OracleRow, single

NEWCOMER_FACTOR = (10.0, 20.0, 20.0)
BUDGET_AT_ONE = 0.00415
HOURS_PER_MESSAGE = 0.1
BUDGET_DECAY_DAYS = 90.0
PRIOR_MESSAGES = 20_000.0
STEP_A_DAY = 0.03
SCALE_MOST = 4.0
LEARN_LEAST_MS = 2 * DAY_MS
LEARN_NEWCOMERS = 16
LEARN_BUDGETS = 2.0
NEWCOMER_MS = DAY_MS
BINS = 96
BINS_PER_OCTAVE = 6
PRIOR_BINS = range(1, 40)
HALVE_EVERY = 500
REFRESH_EVERY = 32
CONTRIBUTION_CAP = 1.5


def bin_of(x: float) -> int:
    """Return floor(6 log2(1 + x)), at most the last of the 96 bins."""
    return min(BINS - 1, math.floor(BINS_PER_OCTAVE * math.log2(1.0 + x)))


def upper_edge(b: int) -> float:
    """Return the end of bin `b`: 2^((b + 1)/6) - 1."""
    return float(2.0 ** ((b + 1) / BINS_PER_OCTAVE)) - 1.0


def prior() -> list[float]:
    """Return a site's histogram before its first newcomer: 12 · 0.85^b in bins 1..39."""
    return [12.0 * 0.85**b if b in PRIOR_BINS else 0.0 for b in range(BINS)]


def quantile(histogram: list[float], q: float) -> float:
    """Return the upper edge of the first bin at which the running sum reaches `q` of the whole."""
    wanted = q * list(accumulate(histogram))[-1]  # not sum(): from Python 3.12 on that rounds otherwise
    reached = 0.0
    for b, weight in enumerate(histogram):
        reached += weight
        if reached >= wanted:
            return upper_edge(b)
    return upper_edge(BINS - 1)


class Cohort:
    """The newcomers of a site: per scale a histogram of the peaks of their first 24 hours, and limits from it."""

    def __init__(self) -> None:
        self.first_ms = -1
        self.hist = [prior() for _ in SLOW]
        self.rescaled_s = 0
        self.new_keys = 0
        self.counted = 0
        self.since_halving = 0
        self.neighbours: dict[int, tuple[float, int]] = {}
        self.read()

    def read(self) -> None:
        """Set Q90 by scale, at least one message, Q50 at 1 h, and the newcomer limit Lnew_s = nu_s · Q90_s, nu = 10, 20, 20."""
        self.q90 = [max(1.0, quantile(self.hist[s], 0.90)) for s in SLOW]
        self.q50 = quantile(self.hist[0], 0.50)
        self.lnew = [NEWCOMER_FACTOR[s] * self.q90[s] for s in SLOW]

    def rescale(self, clock_ms: int) -> None:
        """Discard the first two days' senders, but keep their scale.

        With at least ten of them and a median day above bin 9, the prior moves up from bin 6 to the median, by 56 bins at
        most.
        """
        own = [weight - before for weight, before in zip(self.hist[DAY_SCALE], prior(), strict=True)]
        sums = list(accumulate(own))
        median = next((b for b, reached in enumerate(sums) if reached >= 0.5 * sums[-1]), BINS - 1)
        shift = min(median - 6, 56) if sums[-1] >= 10.0 and median > 9 else 0
        self.hist = [[0.0] * shift + prior()[: BINS - shift] for _ in SLOW]
        self.rescaled_s = clock_ms // 1000
        self.counted = self.since_halving = 0
        self.read()

    def add_newcomer(self, row: OracleRow, key: int, t_ms: int) -> None:
        """Count a new sender in bin 0 if it is among the first four of its /16 (IPv6: /48) in a decayed day.

        After every 500 counted, all weights are halved.
        """
        self.new_keys += 1
        if self._few_neighbours(key >> 16, t_ms):
            self._count(row)
        if self.new_keys % REFRESH_EVERY == 0:
            self.read()

    def _few_neighbours(self, neighbourhood: int, t_ms: int) -> bool:
        """Count in one of 1,024 decayed counts (tau one day, f32), by the low bits of splitmix64's finaliser of the prefix."""
        slot = splitmix(neighbourhood, 0) % 1024
        count, last_ms = self.neighbours.get(slot, (0.0, 0))
        if t_ms > last_ms:
            count *= math.exp(-(t_ms - last_ms) / DAY_MS)
        count = single(count + 1.0)
        self.neighbours[slot] = (count, max(last_ms, t_ms))
        return count <= 4.0

    def _count(self, row: OracleRow) -> None:
        row.counted = True
        self.counted += 1
        for s in SLOW:
            self.hist[s][0] += 1.0
        self.since_halving += 1
        if self.since_halving == HALVE_EVERY:
            self.since_halving = 0
            self.hist = [[0.5 * weight for weight in histogram] for histogram in self.hist]

    def update_newcomer(self, row: OracleRow, t_ms: int) -> None:
        """Within the first 24 h move the sender's unit up to the bin of min(peak, 1.5 Q90).

        Not if its mail is mostly rejected, nor if it came before the cohort was rescaled.
        """
        newcomer = t_ms - 1000 * row.first_seen_s < NEWCOMER_MS and row.first_seen_s >= self.rescaled_s
        if not (row.counted and newcomer and row.rejected <= row.accepted):
            return
        for s in SLOW:
            b = bin_of(min(row.peak[s], CONTRIBUTION_CAP * self.q90[s]))
            if b > row.bin[s]:
                unit = min(1.0, self.hist[s][row.bin[s]])
                self.hist[s][row.bin[s]] -= unit
                self.hist[s][b] += unit
                row.bin[s] = b


class SiteBudget:
    """The cost of throttles to the site's regular mail, how T follows it, and when the site begins to decide."""

    def __init__(self, threshold: float, learning_ms: int) -> None:
        self.budget = BUDGET_AT_ONE * threshold ** (-1 / 1.2)
        self.learning_ms = learning_ms
        self.day = 0
        self.decides_from: float = math.inf
        self.threshold_scale = 1.0
        self.demand = 0.0
        self.charged = 0.0
        self.day_demand = 0
        self.day_deferred = 0

    def open(self, t_ms: int) -> None:
        """Open the site at its first event; without a learning period it decides immediately."""
        self.day = t_ms // DAY_MS
        if self.learning_ms == 0:
            self.decides_from = self.day

    def is_deciding(self) -> bool:
        """Return True if verdicts are published."""
        return self.day >= self.decides_from

    def charge(self, row: OracleRow) -> None:
        """Charge a known sender's closed day: the deferred messages, one busy hour exp(m) - 1 at most.

        On the day it becomes known, all that was accepted before counts as demand.
        """
        self.charged += min(row.deferred, math.exp(row.typical) - 1.0)
        row.deferred = 0
        if row.active_days == PROBATION_DAYS + 1:
            self.demand += row.accepted

    def close(self, today: int, clock_ms: int, cohort: Cohort) -> None:
        """End the site's day: T, decay, learning."""
        target = HOURS_PER_MESSAGE * self.budget
        share = (self.charged + target * PRIOR_MESSAGES) / (self.demand + PRIOR_MESSAGES)
        way = math.log(share / target) - math.log(self.threshold_scale)
        scale = self.threshold_scale * math.exp(min(STEP_A_DAY, max(-STEP_A_DAY, way)))
        self.threshold_scale = min(SCALE_MOST, max(1 / SCALE_MOST, scale))
        decay = math.exp(-(today - self.day) / BUDGET_DECAY_DAYS)
        self.demand, self.charged = self.demand * decay, self.charged * decay
        age_ms = clock_ms - cohort.first_ms
        if cohort.rescaled_s == 0 and age_ms >= LEARN_LEAST_MS:
            cohort.rescale(clock_ms)
        affordable = self.day_deferred <= LEARN_BUDGETS * self.budget * self.day_demand
        credible = cohort.counted >= LEARN_NEWCOMERS and affordable and cohort.rescaled_s > 0
        if math.isinf(self.decides_from) and (credible or age_ms >= self.learning_ms):
            self.decides_from = today
        self.day, self.day_demand, self.day_deferred = today, 0, 0
