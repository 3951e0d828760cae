"""Overrides and the first law: what is published is a function of the events in order and of what operators said.

Invariants tested: nothing that an override covers stays in force, and nothing else goes; blocks, checkpoints and restarts
change nothing; the model's state is the one without overrides.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisions.compose import Composer, Reply
from engine.decisions.override_index import Book
from engine.decisions.publish_gate import Gate
from engine.state.encode import take_cut
from engine.state.partition import Partition
from tests.laws.test_split import CUTS, spans
from tests.oracles.overrides import Order, PlainGate, Published, covers
from tests.support.runs import fresh, restored, state_of
from tests.support.sequences import DAY_MS, HOUR_MS, IPV4_TAG, START_MS, Event, columns_of, rich_sequence, sequences
from topics.columns.scan import ACCEPTED
from topics.decisions import POOL, PROBATION, VOLUME, Decision
from topics.overrides import CONNECTOR, EXEMPT, THROTTLE, THROTTLED, Override, Removal, Said

STATUS = dict.fromkeys((VOLUME, PROBATION, POOL, "override"), "4.7.500")
COMPOSER = Composer("connections", "sha256:00", Reply(STATUS, "{ip}"))
NETWORKS = (
    "0.0.0.0/32", "0.0.0.1/32", "0.0.0.0/30", "0.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32", "::/64", "::/0",
    "2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32", "2001:db8:1:2::1/128", "128.0.0.0/1",
)  # fmt: skip
MOMENTS_MS = st.integers(-2, 60).map(lambda at: START_MS + at * HOUR_MS) | st.integers(0, 60).map(
    lambda at: START_MS + at * DAY_MS
)
ORDERS = st.lists(
    st.tuples(
        st.sampled_from(NETWORKS),
        st.sampled_from(["exempt", "exempt", "throttle", "remove"]),
        MOMENTS_MS,
        st.none() | st.sampled_from([HOUR_MS, DAY_MS, 30 * DAY_MS]),
    ),
    max_size=5,
).map(
    lambda said: [
        Order(network, kind, created, created + (lasts or HOUR_MS) if lasts or kind == "throttle" else None, offset)
        for offset, (network, kind, created, lasts) in enumerate(sorted(said, key=lambda one: one[2]))
    ]
)


def said(orders: Iterable[Order]) -> list[Said]:
    """The orders as the engine reads them."""
    return [
        Removal(order.network, order.created, offset=order.offset)
        if order.kind == "remove"
        else Override(
            order.network,
            EXEMPT if order.kind == "exempt" else THROTTLE,
            CONNECTOR if order.kind == "exempt" else THROTTLED,
            order.created,
            order.until,
            offset=order.offset,
            rate_per_min=1.0,
        )
        for order in orders
    ]


def gated(partition: Partition, orders: Sequence[Order]) -> Gate:
    return Gate(Book(said(orders)), partition, COMPOSER, "exemptions")


def told(decision: Decision) -> Published:
    return decision.network, decision.verdict, decision.source.offset, decision.reason == "override"


def expected(events: Sequence[Event], orders: Sequence[Order], rows: int = 1024) -> list[set[Published]]:
    """What the plain gate says at each event, over a partition that knows no overrides."""
    partition = fresh(rows=rows)
    plain, found = PlainGate(list(orders), {order.network for order in orders}), []
    for event in events:
        verdicts = partition.apply(columns_of([event]), 0, 1)
        t_ms = event.record_ms if event.record_ms >= 0 and abs(event.ts_ms - event.record_ms) > DAY_MS else event.ts_ms
        at_event = plain.before(t_ms, event.offset)
        for decision in (COMPOSER.decision(verdict, 0) for verdict in verdicts):
            at_event |= plain.after(decision.network, decision.verdict, decision.source.offset, decision.until)
        found.append(at_event)
    return found


def published(gate: Gate, events: Sequence[Event], first: int, last: int, into: list[set[Published]]) -> None:
    for number, decision in gate.apply(columns_of(events), first, last):
        into[number].add(told(decision))


@settings(max_examples=300)
@given(sequences(60), ORDERS, CUTS)
def test_what_is_published_is_what_the_plain_gate_says_however_blocks_are_cut(
    events: list[Event], orders: list[Order], cuts: list[int]
) -> None:
    partition = fresh()
    gate, found = gated(partition, orders), [set[Published]() for _ in events]
    for first, last in spans(cuts, len(events)):
        published(gate, events, first, last, found)
    assert found == expected(events, orders)
    plain = fresh()
    plain.apply(columns_of(events), 0, len(events))
    assert state_of(partition) == state_of(plain)


@settings(max_examples=150)
@given(sequences(60), ORDERS, CUTS, st.integers(0, 60))
def test_a_restart_publishes_again_what_it_published_and_leaves_nothing_that_is_covered(
    events: list[Event], orders: list[Order], cuts: list[int], lost: int
) -> None:
    """Events after a checkpoint are applied, forgotten, and read again by a new owner, who has all overrides at hand."""
    gate, changelog, found = gated(fresh(), orders), [], [set[Published]() for _ in events]
    for number, (first, last) in enumerate(spans(cuts, len(events))):
        published(gate, events, first, last, found)
        changelog.append(take_cut(gate.partition, number))
        published(gate, events, last, min(last + lost, len(events)), found)
        gate = gated(restored(changelog, fresh()), orders)
        repeated = [told(decision) for decision in gate.anew()]
        reigning = PlainGate(orders, set()).stated()
        assert all(
            any(covers(order.network, network) for order in reigning) for network, _, _, ordered in repeated if ordered
        )
    assert found == expected(events, orders)


def burst(keys: Sequence[int]) -> list[Event]:
    """Each of them sends so much that it is throttled."""
    return [Event(i, START_MS + i, -1, key, 5000, ACCEPTED) for i, key in enumerate(keys)]


@pytest.mark.parametrize("seed", range(40))
def test_at_once_exactly_what_is_covered_is_withdrawn(seed: int) -> None:
    draw = random.Random(seed)
    near = [IPV4_TAG | (0x0A000000 + draw.randrange(1 << draw.choice((4, 12, 24)))) for _ in range(150)]
    far = [IPV4_TAG | draw.randrange(1 << 32) for _ in range(100)]
    six = [(0x20010DB8 << 32) + draw.randrange(1 << draw.choice((4, 20, 32))) for _ in range(100)]
    keys = list(dict.fromkeys(near + far + six))
    partition = fresh(rows=1024)
    raw = [COMPOSER.decision(verdict, 0) for verdict in partition.apply(columns_of(burst(keys)), 0, len(keys))]
    networks = []
    for _ in range(draw.randrange(1, 12)):
        chosen, six_bits = draw.choice(keys), draw.randrange(0, 65)
        v4_bits = draw.randrange(0, 33)
        if chosen >= IPV4_TAG:
            networks.append(str(ip_network(((chosen & 0xFFFFFFFF) >> 32 - v4_bits << 32 - v4_bits, v4_bits))))
        else:
            networks.append(str(ip_network((chosen >> 64 - six_bits << 128 - six_bits, six_bits))))
    gate = gated(partition, [Order(network, "exempt", 0, None, i) for i, network in enumerate(networks)])
    gone = {decision.network for decision in gate.at_once(networks)}
    throttled = {decision.network for decision in raw if decision.verdict == "throttle"}
    assert len(throttled) > 250
    assert gone == {one for one in throttled if any(covers(network, one) for network in networks)}


def test_before_the_first_event_nothing_is_in_force() -> None:
    gate = gated(fresh(), [Order(network, "exempt", 0, None, i) for i, network in enumerate(("::/0", "0.0.0.0/0"))])
    assert list(gate.at_once(["::/0", "0.0.0.0/0"])) == []


def test_what_was_said_at_once_is_not_said_again_when_the_clock_gets_there() -> None:
    events = burst([IPV4_TAG + 1, IPV4_TAG + 2])
    late = [Event(2, START_MS + 100, -1, IPV4_TAG + 3, 5000, ACCEPTED), Event(3, START_MS + 999, -1, 9, 1, ACCEPTED)]
    orders = [Order("0.0.0.0/24", "exempt", START_MS + 500, None, 0)]
    gate = gated(fresh(), orders)
    list(gate.apply(columns_of(events), 0, 2))
    assert {decision.network for decision in gate.at_once(["0.0.0.0/24"])} == {"0.0.0.1/32", "0.0.0.2/32"}
    assert [told(decision) for _, decision in gate.apply(columns_of(late), 0, 2)] == [
        ("0.0.0.3/32", "throttle", 2, False),
        ("0.0.0.3/32", "release", 3, True),
    ]


def test_a_long_history_with_many_overrides() -> None:
    events, draw = rich_sequence(11, 4000), random.Random(3)
    orders = []
    for offset in range(60):
        length, created = draw.choice((22, 24, 27, 29)), START_MS + draw.randrange(140) * DAY_MS
        number = draw.choice((draw.randrange(200), 1000 + draw.randrange(20))) >> 32 - length << 32 - length
        kind = draw.choice(("exempt", "exempt", "throttle", "remove"))
        until = created + draw.choice((5 * DAY_MS, 20 * DAY_MS, 60 * DAY_MS))
        orders.append(Order(str(ip_network((number, length))), kind, created, until, offset))
    orders.sort(key=lambda order: order.created)
    orders = [order._replace(offset=offset) for offset, order in enumerate(orders)]
    gate, found = gated(fresh(rows=4096), orders), [set[Published]() for _ in events]
    for first in range(0, len(events), 333):
        published(gate, events, first, min(first + 333, len(events)), found)
    assert found == expected(events, orders, rows=4096)
    assert gate.withheld > 20
    assert gate.withdrawn >= 3
