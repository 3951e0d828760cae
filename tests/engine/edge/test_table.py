"""The decision table equals its naive twin, and keeps its limits."""

from __future__ import annotations

import ipaddress
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.edge.decision_row import DecisionRow, Release
from engine.edge.lookup import EXCESS, STALE, UNKNOWN, UNREADABLE, WITHIN, lookup
from engine.edge.table import DecisionTable
from tests.oracles.edgetable import PlainDecision, PlainTable
from topics.decisions import Source
from topics.networks import network_of

START_MS = 1_764_000_000_000
FOREVER_MS = 1 << 60
NETWORKS = ["192.0.2.7/32", "192.0.2.0/24", "192.0.0.0/16", "0.0.0.0/0", "2001:db8:1:2::/64", "2001:db8::/32", "::/0"]
CLIENTS = ["192.0.2.7", "192.0.2.8", "192.0.9.9", "198.51.100.1", "::ffff:192.0.2.7", "2001:db8:1:2::25", "2001:db9::1"]

rate, burst = st.sampled_from([0.0, 0.001, 0.01]), st.sampled_from([1.0, 2.5])
client = st.sampled_from(CLIENTS[:1]) | st.sampled_from(CLIENTS)
network, source = (
    st.sampled_from(NETWORKS[:1]) | st.sampled_from(NETWORKS),
    st.builds(Source, st.sampled_from(["connections", "x"]), st.integers(0, 1), st.integers(0, 4)),
)
ACTS = st.one_of(
    st.tuples(st.just("put"), network, st.integers(1, 4000), rate, burst, source, st.booleans()),
    st.tuples(st.just("release"), network, st.none() | source, st.booleans()),
    st.tuples(st.just("exempt"), network, st.none() | st.integers(1, 4000)),
    st.tuples(st.just("end"), network),
    st.tuples(st.just("edges"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(0, 3000), st.sampled_from([1, 3, 100])),
    st.tuples(st.just("ask"), client, st.booleans()),
    st.tuples(st.just("ask"), client, st.just(True)),
)  # fmt: skip


class Pair:
    """The table and its twin, which get the same calls."""

    def __init__(self) -> None:
        self.table, self.plain, self.now_ms = DecisionTable(100), PlainTable(), START_MS
        self.table.trust_until(FOREVER_MS)

    def put(self, net: str, lasts_ms: int, rate: float, burst: float, source: Source, shadow: bool) -> None:
        until_ms = self.now_ms + lasts_ms
        self.table.put(DecisionRow(network_of(net), until_ms, rate, burst, 500, 1, source, shadow=shadow), self.now_ms)
        decision = PlainDecision(
            until_ms, rate, burst, (source.topic, source.partition), source.offset, False, 0, 0, shadow
        )
        self.plain.put(net, decision, self.now_ms)

    def release(self, net: str, source: Source | None, ordered: bool) -> None:
        self.table.release(Release(network_of(net), source, ordered))
        came = None if source is None else (source.topic, source.partition)
        self.plain.release(net, came, source.offset if source else 0, self.now_ms, ordered=ordered)

    def exempt(self, net: str, lasts_ms: int | None) -> None:
        until_ms = None if lasts_ms is None else self.now_ms + lasts_ms
        self.table.exempt(network_of(net), until_ms)
        self.plain.exempt[ipaddress.ip_network(net)] = FOREVER_MS if until_ms is None else until_ms

    def end(self, net: str) -> None:
        self.table.end_exemption(network_of(net))
        self.plain.exempt.pop(ipaddress.ip_network(net), None)

    def edges(self, count: int) -> None:
        self.table.share_among(count)
        self.plain.edges = count

    def wait(self, ms: int, swept: int) -> None:
        self.now_ms += ms
        self.table.sweep(self.now_ms, swept)

    def ask(self, ip: str, consume: bool) -> None:
        result = lookup(ip, self.table, self.now_ms, consume=consume)
        why, wait_ms = self.plain.lookup(ip, self.now_ms, consume=consume)
        assert (result.why, result.retry_s) == (why, math.ceil(wait_ms / 1000))


@settings(max_examples=400)
@given(st.lists(ACTS, max_size=60))
def test_table_answers_like_its_naive_twin(acts: list[tuple[str, ...]]) -> None:
    pair = Pair()
    for act, *arguments in acts:
        getattr(pair, act)(*arguments)
    for ip in CLIENTS:
        pair.ask(ip, False)


def row(net: str, lasts_ms: int = 60_000, rate_per_ms: float = 0.01, burst: float = 1.0) -> DecisionRow:
    return DecisionRow(network_of(net), START_MS + lasts_ms, rate_per_ms, burst, 500, 1, Source("connections", 0, 1))


def trusting(capacity: int = 100) -> DecisionTable:
    table = DecisionTable(capacity)
    table.trust_until(FOREVER_MS)
    return table


def why(table: DecisionTable, ip: str, now_ms: int) -> str:
    return lookup(ip, table, now_ms).why


def test_full_table_refuses_new_networks_until_decisions_end() -> None:
    table = trusting(2)

    for number in range(3):
        table.put(row(f"192.0.2.{number}/32", burst=1.0), START_MS)

    assert (len(table), table.refused) == (2, 1)
    assert why(table, "192.0.2.2", START_MS) == UNKNOWN

    table.sweep(START_MS + 60_000, 10)
    assert len(table) == 0
    table.put(row("192.0.2.2/32", lasts_ms=90_000), START_MS + 60_000)
    assert why(table, "192.0.2.2", START_MS + 60_000) == WITHIN


def test_decision_ends_at_its_time_without_a_sweep() -> None:
    table = trusting()

    table.put(row("192.0.2.7/32", rate_per_ms=0.0), START_MS)

    assert why(table, "192.0.2.7", START_MS) == WITHIN
    assert why(table, "192.0.2.7", START_MS + 59_999) == EXCESS
    assert why(table, "192.0.2.7", START_MS + 60_000) == UNKNOWN


def test_untrusted_table_throttles_nothing() -> None:
    table = trusting()
    table.put(row("192.0.2.7/32", rate_per_ms=0.0), START_MS)

    table.trust_until(START_MS + 10)

    assert [why(table, "192.0.2.7", START_MS + ms) for ms in (0, 10, 11)] == [WITHIN, EXCESS, STALE]


@pytest.mark.parametrize(("edges", "burst"), [(1, 8.0), (2, 8.0), (4, 8.0), (4, 1.0), (3, 6.0)])
def test_live_edges_together_pass_the_decisions_rate(edges: int, burst: float) -> None:
    tables = [trusting() for _ in range(edges)]
    for table in tables:
        table.put(row("192.0.2.7/32", lasts_ms=10_000_000, rate_per_ms=0.001, burst=burst), START_MS)
        table.share_among(edges)

    passed = sum(
        why(table, "192.0.2.7", START_MS + ms) == WITHIN for ms in range(0, 1_000_000, 100) for table in tables
    )

    assert passed == pytest.approx(1000 + max(burst, edges), rel=0.01)


def test_replayed_throttle_stays_released() -> None:
    table = trusting()
    table.put(row("192.0.2.7/32", rate_per_ms=0.0), START_MS)
    table.release(Release(network_of("192.0.2.7/32"), Source("connections", 0, 5)))

    table.put(row("192.0.2.7/32", rate_per_ms=0.0), START_MS)

    assert why(table, "192.0.2.7", START_MS) == UNKNOWN
    assert table.ignored == 1


@pytest.mark.parametrize(
    "ip", ["", "unknown", "192.0.2", "192.0.2.07", "192.0.2.7/32", "fe80::1%eth0", "1.2.3.4\n", "é"]
)
def test_unreadable_address_is_no_opinion(ip: str) -> None:
    assert why(trusting(), ip, START_MS) == UNREADABLE
