"""The compiled partition against `tests.oracles.detector`: the same events give the same verdicts, rows and site.

Whole numbers are equal. A float may differ by one unit in the last place of a float32: the oracle raises to powers where
the kernels take square roots and exp2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.constants import FAR_DAY, SCALE_NAMES
from engine.detector.layout import ALARMED, COUNTED, LEARNING, WAITING
from engine.detector.relays import relays_of
from engine.detector.throttle import Policy
from engine.detector.verdict import RELEASE
from engine.state.partition import Partition
from tests.oracles.detector import PartitionOracle
from tests.oracles.pools import Crowds
from tests.oracles.senders import OracleRow
from tests.oracles.verdicts import Verdict
from tests.support.runs import fresh, pools_of, rows_of
from tests.support.sequences import (
    DAY_MS,
    IPV4_TAG,
    OUTCOMES,
    START_MS,
    WINDOW_MS,
    Event,
    columns_of,
    crowd_sequence,
    far_apart,
    rich_sequence,
    sequences,
)
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED

HALVE_EVERY = 500


def same(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> bool:
    """Equal but for one unit in the last place of a float32."""
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    near = np.abs(np.subtract(one, other, where=one != other, out=np.zeros_like(one))) <= np.spacing(
        np.abs(other).astype(np.float32)
    )
    return bool((near | (one == other)).all())


def compare_verdict(ours: Any, theirs: Verdict) -> None:
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
    assert same(ours["rate_per_h"], theirs.rate_per_min * 60)
    assert same(ours["burst"], theirs.burst)
    assert same(ours["counter"], theirs.counters)
    assert same(ours["limit"], theirs.limits)
    assert np.isclose(ours["threshold"], theirs.threshold, rtol=1e-12)
    assert same(ours["memory"], theirs.peaks)
    assert ours["pool"] == theirs.pool
    assert same([ours[name] for name in ("pool_keys", "pool_volume", "pool_usual")], theirs.crowd)


def compare_row(ours: Any, theirs: OracleRow) -> None:
    for name in ("last_ms", "until_ms", "day", "active_days", "accepted", "rejected", "held"):
        assert ours[name] == getattr(theirs, name), name
    assert ours["first_seen_s"] == theirs.first_seen_s % 2**32
    assert ours["bin"].tolist() == theirs.bin
    assert bool(ours["flags"] & COUNTED) == theirs.counted
    for name in ("counter", "peak", "memory", "typical", "rate_per_h", "tokens"):
        assert same(ours[name], getattr(theirs, name)), name
    assert abs(ours["weight"] - 1000 * theirs.weight) <= 1


def compare_books(site: Any, oracle: PartitionOracle) -> None:
    books, cohort = oracle.books, oracle.cohort
    assert (site["day"], site["shadows"], site["counted"]) == (books.day, oracle.shadows, cohort.counted)
    assert (site["stretched_s"], site["day_demand"], site["day_held"]) == (
        cohort.stretched_s,
        books.day_demand,
        books.day_held,
    )
    assert site["decides_from"] == min(books.decides_from, FAR_DAY)
    for name in ("lean", "demand", "booked"):
        assert np.isclose(site[name], getattr(books, name), rtol=1e-6), name


def compare_state(partition: Partition, oracle: PartitionOracle) -> None:
    rows = rows_of(partition)
    assert rows["key"].tolist() == sorted(oracle.rows)
    for row in rows:
        compare_row(row, oracle.rows[int(row["key"])])
        assert bool(row["flags"] & WAITING) == (int(row["key"]) in oracle.live)
    site, cohort = partition.state.site[0], oracle.cohort
    compare_books(site, oracle)
    assert (site["new_keys"], site["since_halving"]) == (cohort.new_keys, cohort.since_halving)
    assert (max(site["clock_ms"], -1), site["first_ms"], site["late"]) == (
        max(oracle.clock_ms, 0),
        cohort.first_ms,
        oracle.late,
    )
    assert np.allclose(site["hist"], cohort.hist, rtol=1e-12, atol=0)
    assert np.allclose(site["q90"], cohort.q90, rtol=1e-12)
    assert np.allclose(site["limit"], cohort.lnew, rtol=1e-12)
    assert np.isclose(site["q50"], cohort.q50, rtol=1e-12)
    compare_pools(partition, oracle.crowds)


def compare_pools(partition: Partition, crowds: Crowds) -> None:
    pools, site = pools_of(partition), partition.state.site[0]
    held = crowds.pools
    assert sorted(pools["key"].tolist()) == sorted(held)
    for pool in pools:
        theirs = held[int(pool["key"])]
        for name in ("last_ms", "alarm_ms", "used", "day", "bin"):
            assert pool[name] == getattr(theirs, name), name
        flags = int(pool["flags"])
        assert (bool(flags & LEARNING), bool(flags & ALARMED)) == (theirs.learning, theirs.alarmed)
        for name in ("volume", "keys", "peak", "mean", "variance", "weight"):
            assert same(pool[name], getattr(theirs, name)), name
    assert (site["shadowed"], site["overcrowded"]) == (crowds.shadowed, crowds.overcrowded)
    assert np.isclose(site["pool_throttles"], crowds.throttles)
    for level, usual in enumerate(crowds.usual.values()):
        assert np.allclose(site["pool_hist"][level], usual.hist, rtol=1e-12, atol=0)
        names = ("pool_q90", "pool_mean", "pool_deviation", "pool_days")
        assert np.allclose([site[name][level] for name in names], [usual.q90, usual.mean, usual.deviation, usual.days])


def ask_oracle(oracle: PartitionOracle, events: Iterable[Event]) -> list[Verdict]:
    verdicts = []
    for event in events:
        record_ms = None if event.record_ms < 0 else event.record_ms
        verdicts += oracle.apply(
            event.offset, event.ts_ms, record_ms, event.key, event.messages, OUTCOMES[event.outcome]
        )
    return verdicts


@dataclass(frozen=True)
class Rule:
    """How pools are judged and how long a site learns, for both twins."""

    keys: tuple[float, float] = (24.0, 24.0)
    shadow: bool = False
    relays: dict[str, tuple[str, ...]] = field(default_factory=dict)
    learning_ms: int = 0
    decides: bool = True


def judged(
    events: list[Event], threshold: float = 1.0, rows: int = 1024, rule: Rule | None = None
) -> tuple[PartitionOracle, list[Verdict]]:
    """The oracle and its verdicts, after the partition was found to be of the same opinion."""
    rule = rule or Rule()
    policy = Policy(
        threshold, WINDOW_MS, 0, 1, rule.keys, rule.shadow, relays_of(rule.relays), rule.learning_ms, rule.decides
    )
    crowds = Crowds(rule.keys, rows // 16, shadow=rule.shadow, relays=rule.relays)
    partition, oracle = (
        fresh(policy, rows=rows),
        PartitionOracle(threshold, WINDOW_MS, crowds, rule.learning_ms, rule.decides),
    )
    ours, theirs = partition.apply(columns_of(events), 0, len(events)), ask_oracle(oracle, events)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        compare_verdict(one, other)
    compare_state(partition, oracle)
    return oracle, theirs


@settings(max_examples=3 * settings().max_examples)
@given(sequences(), st.sampled_from([1.0, 0.05, 0.6, 4.77, 100.0]), st.sampled_from([0, 0, 3, 7]))
def test_the_partition_and_its_twin_agree(events: list[Event], threshold: float, learning_days: int) -> None:
    judged(events, threshold, rule=Rule((2.0, 1.5), learning_ms=learning_days * DAY_MS))


RELAYS = {"esp": ("10.9.0.0/17", "2001:db8::/40"), "other": ("10.9.192.0/18",)}


@pytest.mark.parametrize(
    "rule",
    [Rule(), Rule((6.0, 0.0)), Rule((6.0, 9.0), shadow=True), Rule(relays=RELAYS)],
    ids=["live", "wide off", "shadow", "relays"],
)
def test_the_twins_agree_on_crowds(rule: Rule) -> None:
    events = crowd_sequence(3, 6000)
    oracle, verdicts = judged(events, 0.3 if rule.relays else 1.0, rows=2048, rule=rule)
    told = Counter(verdict.pool >> 56 for verdict in verdicts if verdict.kind == "throttle")
    assert len(oracle.crowds.pools) == 128  # and many more have come and gone
    assert oracle.cohort.new_keys > 1000
    assert told[1] > 100 or rule.relays
    assert (told[2] > 100) == (rule.keys[1] > 0 and not rule.shadow)
    assert (oracle.crowds.shadowed > 30) == rule.shadow
    if rule.relays:
        assert {verdict.pool for verdict in verdicts if oracle.crowds.relay(verdict.key)} == {0}
        assert any(key >> 56 == 3 for key in oracle.crowds.pools)


def test_a_flood_becomes_no_flood_of_decisions() -> None:
    """6,000 new addresses of one /16 within minutes, each twice."""
    flood = [Event(1 + i, START_MS + 3 * DAY_MS + i * 50, -1, IPV4_TAG + i % 6000, 1, ACCEPTED) for i in range(12_000)]
    oracle, verdicts = judged([Event(0, START_MS, -1, far_apart(1), 1, ACCEPTED), *flood], rows=1 << 14)
    assert 4096 <= len(verdicts) < 5000
    assert oracle.crowds.overcrowded > 1000


def event_times(events: Iterable[Event]) -> Iterable[tuple[Event, int]]:
    for event in events:
        far = event.record_ms >= 0 and abs(event.ts_ms - event.record_ms) > WINDOW_MS
        yield event, event.record_ms if far else event.ts_ms


def reached(events: list[Event], verdicts: list[Verdict], oracle: PartitionOracle) -> Counter[str]:
    """How often a sequence went where the model has something to decide."""
    found, until, last = Counter[str](), dict[int, int](), dict[int, int]()
    for verdict in verdicts:
        live = until.get(verdict.key, 0) > verdict.issued_ms
        found[verdict.kind] += 1
        found[verdict.reason] += 1
        found["extended"] += verdict.kind == "throttle" and live and verdict.until_ms > until[verdict.key]
        found["scales " + "+".join(verdict.scales)] += verdict.kind == "throttle"
        found["a fast scale"] += not {"10m", "1m"}.isdisjoint(verdict.scales)
        until[verdict.key] = verdict.until_ms if verdict.kind == "throttle" else 0
    for event, t_ms in event_times(events):
        idle_days = t_ms // DAY_MS - last.get(event.key, t_ms) // DAY_MS
        found["idle a week"] += idle_days > 7
        found["out of order"] += t_ms < last.get(event.key, 0)
        found["retry"] += event.outcome == DEFERRED
        last[event.key] = max(last.get(event.key, 0), t_ms)
    rows = oracle.rows.values()
    found["closed days"] = sum(row.active_days for row in rows)
    found["rejected only"] = sum(row.rejected > 0 and row.accepted == 0 for row in rows)
    found["known"] = sum(row.active_days > 3 for row in rows)
    found["counted newcomers that grew"] = sum(max(row.bin) > 6 for row in rows)
    found["halvings"] = oracle.cohort.counted // HALVE_EVERY
    found["late"] = oracle.late
    found["held"] = sum(row.held > 0 for row in rows)
    found["booked"] = int(oracle.books.booked > 0)
    found["newcomers of a crowded neighbourhood"] = oracle.cohort.new_keys - oracle.cohort.counted
    return found


LEAST = {
    "throttle": 300, "release": 300, "extended": 20, "probation": 200, "volume": 20, "scales 1h": 50, "scales 24h": 5,
    "scales 1h+6h+24h": 50, "a fast scale": 10, "held": 50, "booked": 1,
    "idle a week": 500, "out of order": 500, "retry": 1000, "closed days": 3000,
    "rejected only": 200, "known": 200, "counted newcomers that grew": 500, "halvings": 10, "late": 300,
    "newcomers of a crowded neighbourhood": 200,
}  # fmt: skip


@pytest.mark.parametrize(("seed", "threshold"), [(1, 0.7), (2, 0.3)])
def test_a_long_history_goes_everywhere_and_the_twins_agree_to_its_end(seed: int, threshold: float) -> None:
    events = rich_sequence(seed, 40_000)
    oracle, verdicts = judged(events, threshold, rows=1 << 15)
    found = reached(events, verdicts, oracle)
    assert {name: found[name] for name, least in LEAST.items() if found[name] < least} == {}


def test_a_site_that_learns_keeps_its_verdicts_to_itself() -> None:
    """What is live in the shadow when learning ends is said with the next excess, as if it were new."""
    events = rich_sequence(4, 20_000)
    learned, verdicts = judged(events, rows=1 << 15, rule=Rule(learning_ms=7 * DAY_MS))
    watching, said = judged(events, rows=1 << 15, rule=Rule(learning_ms=7 * DAY_MS, decides=False))
    first_ms = learned.cohort.first_ms
    assert learned.shadows > 5
    assert verdicts[0].issued_ms >= first_ms + 2 * DAY_MS
    assert min(verdict.issued_ms for verdict in verdicts) < first_ms + 8 * DAY_MS
    assert said == []
    assert watching.shadows > learned.shadows


def test_a_rate_that_fell_by_a_fifth_is_said_at_once() -> None:
    """Half of the first term is not yet gone when the day closes, and with it the newcomer's wide allowance at T = 100."""
    evening_ms = START_MS // DAY_MS * DAY_MS + DAY_MS - 3_600_000
    events = [
        Event(i, evening_ms + 2 * i * 3_600_000, -1, IPV4_TAG, 20_000 if i == 0 else 1, ACCEPTED) for i in range(3)
    ]
    _, verdicts = judged(events, 100.0)
    assert [verdict.active_days for verdict in verdicts] == [0, 1]
    assert verdicts[1].rate_per_min < 0.2 * verdicts[0].rate_per_min


@pytest.mark.parametrize("outcome", [REJECTED, DEFERRED])
def test_a_site_that_turns_most_newcomers_away_still_lets_newcomers_in(outcome: int) -> None:
    events = [
        Event(i, START_MS + i * 60_000, -1, far_apart(i), 1, ACCEPTED if i % 20 == 0 else outcome)
        for i in range(12_000)
    ]
    oracle, verdicts = judged(events, rows=1 << 14)
    assert oracle.cohort.lnew == [10.0, 20.0, 20.0]
    assert verdicts == []
