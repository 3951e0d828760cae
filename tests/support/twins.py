"""Compare a compiled partition with its oracle. Whole numbers are equal; a float may differ by one unit in the last place.

That is of a float32: the oracle raises to powers where the kernels take square roots and exp2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.constants import FAR_DAY, SCALE_NAMES
from engine.detector.layout import ALARMED, COUNTED, LEARNING, THROTTLED
from engine.detector.verdict import RELEASE
from engine.state.partition import Partition
from tests.oracles.breaker import BreakerOracle
from tests.oracles.detector import PartitionOracle
from tests.oracles.pools import OraclePools
from tests.oracles.senders import OracleRow
from tests.oracles.verdicts import Verdict
from tests.support.runs import pools_of, rows_of
from tests.support.sequences import OUTCOMES, Event

# Fields of SITE and the attributes of the oracle's budget that they must equal.
BUDGET_FIELDS = {"threshold_scale": "threshold_scale", "budget_demand": "demand", "budget_charged": "charged"}


def is_same(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> bool:
    """Return True if equal up to one unit in the last place of a float32."""
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    near = np.abs(np.subtract(one, other, where=one != other, out=np.zeros_like(one))) <= np.spacing(
        np.abs(other).astype(np.float32)
    )
    return bool((near | (one == other)).all())


def verdicts_of(oracle: PartitionOracle, events: Iterable[Event]) -> list[Verdict]:
    """Apply events to an oracle and return its verdicts."""
    verdicts = []
    for event in events:
        record_ms = None if event.record_ms < 0 else event.record_ms
        verdicts += oracle.apply(
            event.offset, event.ts_ms, record_ms, event.key, event.messages, OUTCOMES[event.outcome]
        )
    return verdicts


def compare_verdicts(ours: npt.NDArray[Any], theirs: list[Verdict]) -> None:
    """Assert that all verdicts are equal."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        _compare_verdict(one, other)


def _compare_verdict(ours: Any, theirs: Verdict) -> None:
    assert ("release" if ours["kind"] == RELEASE else "throttle") == theirs.kind
    assert tuple(int(ours[name]) for name in ("key", "issued_ms", "until_ms", "offset")) == (
        theirs.key,
        theirs.issued_ms,
        theirs.until_ms,
        theirs.offset,
    )
    assert ours["prefix"] == theirs.prefix
    if theirs.kind == "release":
        return
    assert ours["within"] == theirs.within
    assert tuple(name for s, name in enumerate(SCALE_NAMES) if int(ours["scales"]) >> s & 1) == theirs.scales
    assert ours["active_days"] == theirs.active_days
    pool = ours["prefix"] or ours["within"] or ours["pool"]
    assert theirs.reason == ("pool" if pool else "probation" if ours["active_days"] <= 3 else "volume")
    assert is_same(ours["rate_per_h"], theirs.rate_per_min * 60)
    assert is_same(ours["burst"], theirs.burst)
    assert is_same(ours["counter"], theirs.counters)
    assert is_same(ours["limit"], theirs.limits)
    assert np.isclose(ours["threshold"], theirs.threshold, rtol=1e-12)
    assert is_same(ours["memory"], theirs.peaks)
    assert ours["pool"] == theirs.pool
    assert is_same([ours[name] for name in ("pool_keys", "pool_volume", "pool_usual")], theirs.pool_evidence)


def compare_row(ours: Any, theirs: OracleRow) -> None:
    """Assert that a sender's rows are equal."""
    for name in ("last_ms", "until_ms", "day", "active_days", "accepted", "rejected", "deferred"):
        assert ours[name] == getattr(theirs, name), name
    assert ours["first_seen_s"] == theirs.first_seen_s % 2**32
    assert ours["bin"].tolist() == theirs.bin
    assert bool(ours["flags"] & COUNTED) == theirs.counted
    for name in ("counter", "peak", "memory", "typical", "rate_per_h", "tokens"):
        assert is_same(ours[name], getattr(theirs, name)), name
    assert abs(ours["weight"] - 1000 * theirs.weight) <= 1


def compare_state(partition: Partition, oracle: PartitionOracle) -> None:
    """Assert that rows, site and pools are equal."""
    rows = rows_of(partition)
    assert rows["key"].tolist() == sorted(oracle.rows)
    for row in rows:
        compare_row(row, oracle.rows[int(row["key"])])
        assert bool(row["flags"] & THROTTLED) == (int(row["key"]) in oracle.live)
    site, cohort = partition.state.site[0], oracle.cohort
    _compare_budget(site, oracle)
    assert (site["cohort_new_keys"], site["cohort_since_halving"]) == (cohort.new_keys, cohort.since_halving)
    assert (max(site["clock_ms"], -1), site["first_ms"], site["late"]) == (
        max(oracle.clock_ms, 0),
        cohort.first_ms,
        oracle.late,
    )
    assert np.allclose(site["cohort_hist"], cohort.hist, rtol=1e-12, atol=0)
    assert np.allclose(site["cohort_q90"], cohort.q90, rtol=1e-12)
    assert np.allclose(site["cohort_limit"], cohort.lnew, rtol=1e-12)
    assert np.isclose(site["cohort_q50"], cohort.q50, rtol=1e-12)
    _compare_pools(partition, oracle.pools)


def _compare_budget(site: Any, oracle: PartitionOracle) -> None:
    budget, cohort = oracle.budget, oracle.cohort
    assert (site["day"], site["suppressed"], site["cohort_counted"]) == (budget.day, oracle.suppressed, cohort.counted)
    assert (site["cohort_rescaled_s"], site["budget_day_demand"], site["budget_day_deferred"]) == (
        cohort.rescaled_s,
        budget.day_demand,
        budget.day_deferred,
    )
    assert site["decides_from"] == min(budget.decides_from, FAR_DAY)
    for ours, theirs in BUDGET_FIELDS.items():
        assert np.isclose(site[ours], getattr(budget, theirs), rtol=1e-6), ours


def _compare_pools(partition: Partition, oracle: OraclePools) -> None:
    pools, site = pools_of(partition), partition.state.site[0]
    expected = oracle.pools
    assert sorted(pools["key"].tolist()) == sorted(expected)
    for pool in pools:
        theirs = expected[int(pool["key"])]
        for name in ("last_ms", "alarm_ms", "last_use", "day", "bin"):
            assert pool[name] == getattr(theirs, name), name
        flags = int(pool["flags"])
        assert (bool(flags & LEARNING), bool(flags & ALARMED)) == (theirs.learning, theirs.alarmed)
        for name in ("volume", "keys", "peak", "mean", "variance", "weight"):
            assert is_same(pool[name], getattr(theirs, name)), name
    assert (site["pool_shadowed"], site["pool_over_limit"]) == (oracle.shadowed, oracle.over_limit)
    assert np.isclose(site["pool_throttles"], oracle.throttles)
    for level, usual in enumerate(oracle.usual.values()):
        assert np.allclose(site["pool_hist"][level], usual.hist, rtol=1e-12, atol=0)
        names = ("pool_q90", "pool_mean", "pool_deviation", "pool_days")
        assert np.allclose([site[name][level] for name in names], [usual.q90, usual.mean, usual.deviation, usual.days])


def breaker_pairs(site: Any, breaker: BreakerOracle) -> dict[str, tuple[float, float]]:
    """Return the site's fields of the circuit breaker with the oracle's values."""
    return {
        "excess": (float(site["breaker_excess"]), breaker.excess),
        "re-arms": (int(site["breaker_rearm_ms"]), breaker.rearm_ms or 0),
        "trips": (int(site["breaker_trips"]), breaker.trips),
        "tripped": (int(site["breaker_tripped_ms"]), breaker.tripped_ms),
        "withdrawn": (int(site["breaker_withdrawn"]), breaker.withdrawn),
        "to withdraw": (int(site["breaker_pending"]), len(breaker.pending)),
        "senders since": (int(site["breaker_senders"]), breaker.senders),
        "alarms since": (int(site["breaker_alarms"]), breaker.alarms),
    }
