"""The compiled partition against `tests.oracles.detector`: the same events give the same verdicts, rows and site."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detector.relays import relays_of
from engine.detector.throttle import Policy
from tests.oracles.detector import PartitionOracle
from tests.oracles.pools import OraclePools
from tests.oracles.verdicts import Verdict
from tests.support.runs import fresh
from tests.support.sequences import (
    DAY_MS,
    IPV4_TAG,
    START_MS,
    WINDOW_MS,
    Event,
    columns_of,
    event_times,
    far_apart,
    rich_sequence,
    sequences,
    snowshoe_sequence,
)
from tests.support.twins import compare_state, compare_verdicts, verdicts_of
from topics.columns.scan import ACCEPTED, DEFERRED, REJECTED

HALVE_EVERY = 500


@dataclass(frozen=True)
class Rule:
    """The pool rule and the learning period of a partition, for both twins."""

    keys: tuple[float, float] = (24.0, 24.0)  # new senders that make a pool suspicious
    shadow: bool = False
    relays: dict[str, tuple[str, ...]] = field(default_factory=dict)
    learning_ms: int = 0
    decides: bool = True


def run_twins(
    events: list[Event], threshold: float = 1.0, rows: int = 1024, rule: Rule | None = None
) -> tuple[PartitionOracle, list[Verdict]]:
    """Return the oracle and its verdicts, after comparing the compiled partition with it."""
    rule = rule or Rule()
    policy = Policy(
        threshold, WINDOW_MS, 0, 1, rule.keys, rule.shadow, relays_of(rule.relays), rule.learning_ms, rule.decides
    )
    pools = OraclePools(rule.keys, rows // 16, shadow=rule.shadow, relays=rule.relays)
    partition = fresh(policy, rows=rows)
    oracle = PartitionOracle(threshold, WINDOW_MS, pools, rule.learning_ms, rule.decides)
    ours, theirs = partition.apply(columns_of(events), 0, len(events)), verdicts_of(oracle, events)
    compare_verdicts(ours, theirs)
    compare_state(partition, oracle)
    return oracle, theirs


@settings(max_examples=3 * settings().max_examples)
@given(sequences(), st.sampled_from([1.0, 0.05, 0.6, 4.77, 100.0]), st.sampled_from([0, 0, 3, 7]))
def test_partition_equals_its_oracle(events: list[Event], threshold: float, learning_days: int) -> None:
    run_twins(events, threshold, rule=Rule((2.0, 1.5), learning_ms=learning_days * DAY_MS))


RELAYS = {"esp": ("10.9.0.0/17", "2001:db8::/40"), "other": ("10.9.192.0/18",)}


@pytest.mark.parametrize(
    "rule",
    [Rule(), Rule((6.0, 0.0)), Rule((6.0, 9.0), shadow=True), Rule(relays=RELAYS)],
    ids=["live", "wide off", "shadow", "relays"],
)
def test_snowshoe_verdicts_equal_the_oracles(rule: Rule) -> None:
    events = snowshoe_sequence(3, 6000)

    oracle, verdicts = run_twins(events, 0.3 if rule.relays else 1.0, rows=2048, rule=rule)

    by_level = Counter(verdict.pool >> 56 for verdict in verdicts if verdict.kind == "throttle")
    assert len(oracle.pools.pools) == 128  # all slots: many pools were recycled
    assert oracle.cohort.new_keys > 1000
    assert by_level[1] > 100 or rule.relays
    assert (by_level[2] > 100) == (rule.keys[1] > 0 and not rule.shadow)
    assert (oracle.pools.shadowed > 30) == rule.shadow
    if rule.relays:
        assert {verdict.pool for verdict in verdicts if oracle.pools.relay(verdict.key)} == {0}
        assert any(key >> 56 == 3 for key in oracle.pools.pools)


def test_flood_of_6000_senders_is_limited_to_about_4096_throttles() -> None:
    """6,000 new addresses of one /16 send within minutes, each twice."""
    flood = [Event(1 + i, START_MS + 3 * DAY_MS + i * 50, -1, IPV4_TAG + i % 6000, 1, ACCEPTED) for i in range(12_000)]

    oracle, verdicts = run_twins([Event(0, START_MS, -1, far_apart(1), 1, ACCEPTED), *flood], rows=1 << 14)

    assert 4096 <= len(verdicts) < 5000
    assert oracle.pools.over_limit > 1000


def reached(events: list[Event], verdicts: list[Verdict], oracle: PartitionOracle) -> Counter[str]:
    """Count how often a sequence reached each branch of the model."""
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
    found["deferred"] = sum(row.deferred > 0 for row in rows)
    found["charged"] = int(oracle.budget.charged > 0)
    found["newcomers with many neighbours"] = oracle.cohort.new_keys - oracle.cohort.counted
    return found


LEAST = {
    "throttle": 300, "release": 300, "extended": 20, "probation": 200, "volume": 20, "scales 1h": 50, "scales 24h": 5,
    "scales 1h+6h+24h": 50, "a fast scale": 10, "deferred": 50, "charged": 1,
    "idle a week": 500, "out of order": 500, "retry": 1000, "closed days": 3000,
    "rejected only": 200, "known": 200, "counted newcomers that grew": 500, "halvings": 10, "late": 300,
    "newcomers with many neighbours": 200,
}  # fmt: skip


@pytest.mark.parametrize(("seed", "threshold"), [(1, 0.7), (2, 0.3)])
def test_long_history_reaches_every_branch_and_equals_the_oracle(seed: int, threshold: float) -> None:
    events = rich_sequence(seed, 40_000)

    oracle, verdicts = run_twins(events, threshold, rows=1 << 15)

    found = reached(events, verdicts, oracle)
    assert {name: found[name] for name, least in LEAST.items() if found[name] < least} == {}


def test_learning_site_publishes_no_verdicts() -> None:
    """A throttle that is active when learning ends is published at the next excess, as if it were new."""
    events = rich_sequence(4, 20_000)

    learned, verdicts = run_twins(events, rows=1 << 15, rule=Rule(learning_ms=7 * DAY_MS))
    watching, suppressed = run_twins(events, rows=1 << 15, rule=Rule(learning_ms=7 * DAY_MS, decides=False))

    first_ms = learned.cohort.first_ms
    assert learned.suppressed > 5
    assert verdicts[0].issued_ms >= first_ms + 2 * DAY_MS
    assert min(verdict.issued_ms for verdict in verdicts) < first_ms + 8 * DAY_MS
    assert suppressed == []
    assert watching.suppressed > learned.suppressed


def test_rate_that_falls_by_a_fifth_is_published_immediately() -> None:
    """Less than half of the first term is over when the day closes, and with it the newcomer's wide allowance at T = 100."""
    evening_ms = START_MS // DAY_MS * DAY_MS + DAY_MS - 3_600_000
    events = [
        Event(i, evening_ms + 2 * i * 3_600_000, -1, IPV4_TAG, 20_000 if i == 0 else 1, ACCEPTED) for i in range(3)
    ]

    _, verdicts = run_twins(events, 100.0)

    assert [verdict.active_days for verdict in verdicts] == [0, 1]
    assert verdicts[1].rate_per_min < 0.2 * verdicts[0].rate_per_min


@pytest.mark.parametrize("outcome", [REJECTED, DEFERRED])
def test_site_that_rejects_most_newcomers_still_admits_newcomers(outcome: int) -> None:
    events = [
        Event(i, START_MS + i * 60_000, -1, far_apart(i), 1, ACCEPTED if i % 20 == 0 else outcome)
        for i in range(12_000)
    ]

    oracle, verdicts = run_twins(events, rows=1 << 14)

    assert oracle.cohort.lnew == [10.0, 20.0, 20.0]
    assert verdicts == []
