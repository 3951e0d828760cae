"""Overrides and the first law: the published decisions are a function of the events in order and of the overrides.

Invariants tested: no decision that an override covers stays active, and no other is withdrawn; blocks, checkpoints and
restarts change nothing; the model's state is the one without overrides.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisions.publish_gate import PublishGate
from engine.state.encode import cut_state
from tests.oracles.overrides import PlainGate, PlainOverride, PlainPublished, covers
from tests.support.overrides import COMPOSER, OVERRIDES, gate_of, published_of
from tests.support.runs import fresh, restored, state_of
from tests.support.sequences import (
    CUTS,
    DAY_MS,
    IPV4_TAG,
    START_MS,
    Event,
    columns_of,
    event_times,
    rich_sequence,
    sequences,
    spans,
)
from topics.columns.scan import ACCEPTED


def expected(
    events: Sequence[Event], overrides: Sequence[PlainOverride], rows: int = 1024
) -> list[set[PlainPublished]]:
    """Return the plain gate's decisions at each event, over a partition without overrides."""
    partition = fresh(rows=rows)
    plain, result = PlainGate(list(overrides), {override.network for override in overrides}), []
    for event, t_ms in event_times(events):
        verdicts = partition.apply(columns_of([event]), 0, 1)
        at_event = plain.before(t_ms, event.offset)
        for decision in (COMPOSER.decision(verdict, 0) for verdict in verdicts):
            at_event |= plain.after(decision.network, decision.verdict, decision.source.offset, decision.until)
        result.append(at_event)
    return result


def publish(gate: PublishGate, events: Sequence[Event], first: int, last: int, into: list[set[PlainPublished]]) -> None:
    """Apply events to a gate and add its decisions to those of their events."""
    for number, decision in gate.apply(columns_of(events), first, last):
        into[number].add(published_of(decision))


@settings(max_examples=300)
@given(sequences(60), OVERRIDES, CUTS)
def test_published_decisions_equal_the_plain_gates_for_any_blocks(
    events: list[Event], overrides: list[PlainOverride], cuts: list[int]
) -> None:
    partition, plain = fresh(), fresh()
    gate, published = gate_of(partition, overrides), [set[PlainPublished]() for _ in events]

    for first, last in spans(cuts, len(events)):
        publish(gate, events, first, last, published)

    assert published == expected(events, overrides)
    plain.apply(columns_of(events), 0, len(events))
    assert state_of(partition) == state_of(plain)


@settings(max_examples=150)
@given(sequences(60), OVERRIDES, CUTS, st.integers(0, 60))
def test_restart_publishes_the_same_again_and_leaves_no_covered_decision(
    events: list[Event], overrides: list[PlainOverride], cuts: list[int], lost: int
) -> None:
    """Events after a checkpoint are applied, lost, and read again by a new owner that has all overrides."""
    gate, changelog, published = gate_of(fresh(), overrides), [], [set[PlainPublished]() for _ in events]
    active = PlainGate(overrides, set()).terms()

    for number, (first, last) in enumerate(spans(cuts, len(events))):
        publish(gate, events, first, last, published)
        changelog.append(cut_state(gate.partition, number))
        publish(gate, events, last, min(last + lost, len(events)), published)
        gate = gate_of(restored(changelog, fresh()), overrides)
        repeated = [published_of(decision) for decision in gate.reconcile()]
        assert all(
            any(covers(override.network, decision.network) for override in active)
            for decision in repeated
            if decision.is_override
        )

    assert published == expected(events, overrides)


def burst(keys: Sequence[int]) -> list[Event]:
    """Return one event of each sender, large enough to be throttled."""
    return [Event(i, START_MS + i, -1, key, 5000, ACCEPTED) for i, key in enumerate(keys)]


@pytest.mark.parametrize("seed", range(40))
def test_apply_now_withdraws_exactly_the_covered_decisions(seed: int) -> None:
    draw = random.Random(seed)
    near = [IPV4_TAG | (0x0A000000 + draw.randrange(1 << draw.choice((4, 12, 24)))) for _ in range(150)]
    far = [IPV4_TAG | draw.randrange(1 << 32) for _ in range(100)]
    six = [(0x20010DB8 << 32) + draw.randrange(1 << draw.choice((4, 20, 32))) for _ in range(100)]
    keys = list(dict.fromkeys(near + far + six))
    partition = fresh(rows=1024)
    raw = [COMPOSER.decision(verdict, 0) for verdict in partition.apply(columns_of(burst(keys)), 0, len(keys))]
    throttled = {decision.network for decision in raw if decision.verdict == "throttle"}
    assert len(throttled) > 250
    networks = []
    for _ in range(draw.randrange(1, 12)):
        chosen, six_bits = draw.choice(keys), draw.randrange(0, 65)
        v4_bits = draw.randrange(0, 33)
        if chosen >= IPV4_TAG:
            networks.append(str(ip_network(((chosen & 0xFFFFFFFF) >> 32 - v4_bits << 32 - v4_bits, v4_bits))))
        else:
            networks.append(str(ip_network((chosen >> 64 - six_bits << 128 - six_bits, six_bits))))
    gate = gate_of(partition, [PlainOverride(network, "exempt", 0, None, i) for i, network in enumerate(networks)])

    withdrawn = {decision.network for decision in gate.apply_now(networks)}

    assert withdrawn == {one for one in throttled if any(covers(network, one) for network in networks)}


def test_apply_now_before_the_first_event_withdraws_nothing() -> None:
    networks = ["::/0", "0.0.0.0/0"]
    gate = gate_of(fresh(), [PlainOverride(network, "exempt", 0, None, i) for i, network in enumerate(networks)])

    assert list(gate.apply_now(networks)) == []


def test_decision_withdrawn_by_apply_now_is_not_withdrawn_again_when_the_override_begins() -> None:
    events = burst([IPV4_TAG + 1, IPV4_TAG + 2])
    late = [Event(2, START_MS + 100, -1, IPV4_TAG + 3, 5000, ACCEPTED), Event(3, START_MS + 999, -1, 9, 1, ACCEPTED)]
    gate = gate_of(fresh(), [PlainOverride("0.0.0.0/24", "exempt", START_MS + 500, None, 0)])
    gate.apply(columns_of(events), 0, 2)

    withdrawn = {decision.network for decision in gate.apply_now(["0.0.0.0/24"])}
    later = [published_of(decision) for _, decision in gate.apply(columns_of(late), 0, 2)]

    assert withdrawn == {"0.0.0.1/32", "0.0.0.2/32"}
    assert later == [("0.0.0.3/32", "throttle", 2, False), ("0.0.0.3/32", "release", 3, True)]


def test_long_history_with_many_overrides_equals_the_plain_gate() -> None:
    events, draw = rich_sequence(11, 4000), random.Random(3)
    overrides = []
    for offset in range(60):
        length, created = draw.choice((22, 24, 27, 29)), START_MS + draw.randrange(140) * DAY_MS
        number = draw.choice((draw.randrange(200), 1000 + draw.randrange(20))) >> 32 - length << 32 - length
        kind = draw.choice(("exempt", "exempt", "throttle", "remove"))
        until = created + draw.choice((5 * DAY_MS, 20 * DAY_MS, 60 * DAY_MS))
        overrides.append(PlainOverride(str(ip_network((number, length))), kind, created, until, offset))
    overrides.sort(key=lambda override: override.created)
    overrides = [override._replace(offset=offset) for offset, override in enumerate(overrides)]
    gate, published = gate_of(fresh(rows=4096), overrides), [set[PlainPublished]() for _ in events]

    for first in range(0, len(events), 333):
        publish(gate, events, first, min(first + 333, len(events)), published)

    assert published == expected(events, overrides, rows=4096)
    counts = gate.drain_counts()
    assert counts.withheld > 20
    assert counts.withdrawn >= 3
