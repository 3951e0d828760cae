"""Shadow mode and the first law: decisions in shadow are those that would be made without it, and they defer nothing.

Invariants tested: shadow mode changes the verdict's name and nothing else; an edge with decisions in shadow reports exactly
the messages that it would have deferred; after a change of shadow mode no live decision under it is left, whatever the time,
and a restart publishes none of it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_network

import pytest

from engine.decisions.compose import Composer
from engine.decisions.publish_gate import PublishGate
from engine.decisions.shadow import NO_SHADOW, ShadowRules
from engine.edge.decision_row import DecisionRow, read_decision
from engine.edge.lookup import EXCESS, SHADOW, lookup
from engine.edge.table import DecisionTable
from engine.state.encode import cut_state
from engine.state.partition import Partition
from tests.support.floods import flood_sequence
from tests.support.overrides import COMPOSER, gate_of
from tests.support.runs import fresh, restored, state_of
from tests.support.sequences import Event, columns_of, rich_sequence, snowshoe_sequence
from topics.decisions import OVERRIDE, RELEASE, THROTTLE, Decision, encode_decision
from topics.keys import key_text

EVERYTHING = ShadowRules(everything=True)
SHADOWS = {
    "everything": EVERYTHING,
    "volume": ShadowRules(reasons=frozenset({"volume"})),
    "probation": ShadowRules(reasons=frozenset({"probation"})),
    "pool": ShadowRules(reasons=frozenset({"pool"})),
    "networks": ShadowRules(
        networks=("0.0.0.0/25", "10.9.3.0/24", "198.51.100.0/30", "2a0b:f00d:0:7::/64", "2001:db8::/60")
    ),
    "both": ShadowRules(reasons=frozenset({"pool"}), networks=("0.0.0.0/1",)),
}
SITES = {
    "senders": (rich_sequence(7, 4000), 4096),
    "pools": (snowshoe_sequence(5, 12_000), 4096),
    "floods": (flood_sequence(3, 30_000), 64),
}


def with_shadow(shadow: ShadowRules) -> Composer:
    return replace(COMPOSER, shadow=shadow)


@lru_cache(maxsize=32)
def run(site: str, shadow: ShadowRules) -> tuple[list[tuple[int, Decision]], Partition]:
    """Return the decisions with the numbers of their events, and the partition afterwards."""
    events, rows = SITES[site]
    gate = gate_of(fresh(rows=rows), [], with_shadow(shadow))
    return gate.apply(columns_of(events), 0, len(events)), gate.partition


def is_in_shadow(decision: Decision, shadow: ShadowRules) -> bool:
    """Return True if a decision is in shadow, by the definition."""
    judged = ip_network(decision.evidence.get("within", decision.network))
    around = [ip_network(network) for network in shadow.networks]
    overlaps = any(judged.version == one.version and judged.overlaps(one) for one in around)
    return shadow.everything or decision.reason in shadow.reasons or overlaps


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", SHADOWS)
def test_shadow_changes_only_the_verdicts_name(site: str, name: str) -> None:
    shadow = SHADOWS[name]

    (plain, partition), (shaded, other) = run(site, NO_SHADOW), run(site, shadow)

    assert state_of(partition) == state_of(other)
    assert len(plain) == len(shaded)
    for (event, live), (same, decision) in zip(plain, shaded, strict=True):
        marked = live.verdict == THROTTLE and is_in_shadow(live, shadow)
        assert (same, decision) == (event, replace(live, verdict="shadow") if marked else live)


def test_sites_have_decisions_of_all_kinds() -> None:
    """Without these the other laws would hold trivially."""
    kinds = Counter(
        (site, decision.reason, "within" in decision.evidence)
        for site in SITES
        for _, decision in run(site, NO_SHADOW)[0]
        if decision.verdict == THROTTLE
    )

    for kind in (("senders", "volume", False), ("senders", "probation", False), ("pools", "pool", False)):
        assert kinds[kind] > 20, kind
    assert kinds["floods", "pool", False] > 20
    assert kinds["floods", "pool", True] >= 3


def answers(site: str, shadow: ShadowRules) -> Iterator[str]:
    """Yield an edge's answers to each event's messages."""
    decisions, _ = run(site, shadow)
    table, waiting = DecisionTable(10_000), iter([*decisions, (1 << 40, decisions[-1][1])])
    table.trust_until(1 << 60)
    number, decision = next(waiting)
    for i, event in enumerate(SITES[site][0]):
        while number <= i:
            store(table, decision, event.ts_ms)
            number, decision = next(waiting)
        for _ in range(min(event.messages, 9)):
            yield lookup(key_text(event.key).removesuffix("/64"), table, event.ts_ms).why


def store(table: DecisionTable, decision: Decision, now_ms: int) -> None:
    """Put a decision into an edge's table, or release one, by its record."""
    body = encode_decision(decision)
    released = decision.verdict == RELEASE
    row = read_decision(decision.network.encode(), None if released else body, body if released else None)
    if isinstance(row, DecisionRow):
        table.put(row, now_ms)
    else:
        table.release(row)


@pytest.mark.parametrize("site", SITES)
def test_edge_in_shadow_defers_nothing_and_reports_each_message_it_would_have_deferred(site: str) -> None:
    live, shaded = list(answers(site, NO_SHADOW)), list(answers(site, EVERYTHING))

    assert live.count(EXCESS) > 100
    assert EXCESS not in shaded
    assert [why == EXCESS for why in live] == [why == SHADOW for why in shaded]


@dataclass
class TopicReader:
    """The state of a reader of the topic, by the rules of `topics.decisions` alone."""

    newest: dict[str, tuple[tuple[int, bool], Decision]] = field(default_factory=dict)

    def read(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Apply decisions in topic order and return them."""
        applied = list(decisions)
        for decision in applied:
            released = decision.verdict == RELEASE
            rank = decision.source.offset + (released and decision.reason == OVERRIDE), not released
            if rank >= self.newest.get(decision.network, ((-1, False), decision))[0]:
                self.newest[decision.network] = rank, decision
        return applied

    def live(self, at_ms: int) -> list[Decision]:
        """Return the throttles that are active at a time."""
        return [
            decision for _, decision in self.newest.values() if decision.verdict == THROTTLE and decision.until > at_ms
        ]


def clock_ms(gate: PublishGate) -> int:
    return int(gate.partition.state.site["clock_ms"][0])


def cuts(site: str, shadow: ShadowRules, most: int) -> list[int]:
    """Return numbers of events after throttles that would be in shadow, spread over all of them."""
    events = [
        event
        for event, decision in run(site, NO_SHADOW)[0]
        if decision.verdict == THROTTLE and is_in_shadow(decision, shadow)
    ]
    return [event + 1 for event in events[:: max(1, len(events) // most)]][-most:]


def run_to(site: str, cut: int) -> tuple[PublishGate, TopicReader, Sequence[Event]]:
    """Return a site without shadow after `cut` events, its reader, and all its events."""
    events, rows = SITES[site]
    gate, reader = gate_of(fresh(rows=rows), []), TopicReader()
    reader.read(decision for _, decision in gate.apply(columns_of(events), 0, cut))
    return gate, reader, events


def test_shadows_affect_decisions_on_all_sites() -> None:
    """Without these the next law would hold trivially."""
    assert {(site, name) for site in SITES for name, shadow in SHADOWS.items() if cuts(site, shadow, 3)} >= {
        *((site, "everything") for site in SITES), *((site, "probation") for site in SITES),
        ("senders", "volume"), ("senders", "networks"), ("pools", "pool"), ("floods", "pool"), ("floods", "networks"),
    }  # fmt: skip


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", SHADOWS)
def test_change_to_shadow_leaves_no_live_decision_under_it(site: str, name: str) -> None:
    for cut in cuts(site, SHADOWS[name], 3):
        check_change_to_shadow(SHADOWS[name], site, cut)


def check_change_to_shadow(shadow: ShadowRules, site: str, cut: int) -> None:
    gate, reader, events = run_to(site, cut)
    before = [decision for decision in reader.live(clock_ms(gate)) if is_in_shadow(decision, shadow)]
    gate.reconfigure(with_shadow(shadow))

    withdrawn = reader.read(gate.apply_shadow_change())

    assert {decision.network for decision in before} <= {decision.network for decision in withdrawn}
    assert {(decision.verdict, decision.reason) for decision in withdrawn} <= {(RELEASE, OVERRIDE)}
    assert [decision for decision in reader.live(clock_ms(gate)) if is_in_shadow(decision, shadow)] == []
    assert list(gate.apply_shadow_change()) == []
    columns = columns_of(events)
    for first in range(cut, len(events), 500):
        reader.read(decision for _, decision in gate.apply(columns, first, min(first + 500, len(events))))
        assert [decision for decision in reader.live(clock_ms(gate)) if is_in_shadow(decision, shadow)] == []


def test_change_to_shadow_keeps_decisions_outside_of_it() -> None:
    shadow, withdrawn = SHADOWS["networks"], 0

    for site, cut in [(one, cut) for one in SITES for cut in cuts(one, shadow, 8)]:
        gate, reader, _ = run_to(site, cut)
        before = {decision.network: decision for decision in reader.live(clock_ms(gate))}
        gate.reconfigure(with_shadow(shadow))
        released = {decision.network for decision in gate.apply_shadow_change()}
        fallen = {network for network, decision in before.items() if is_in_shadow(decision, shadow)}
        assert fallen == released & before.keys()
        withdrawn += len(released & before.keys())

    assert withdrawn > 5


@pytest.mark.parametrize("site", SITES)
def test_new_owner_withdraws_everything_after_a_change_of_shadow_and_nothing_without_one(site: str) -> None:
    gate, reader, _ = run_to(site, cuts(site, EVERYTHING, 3)[-1])
    live = {decision.network for decision in reader.live(clock_ms(gate))}
    gate.reconfigure(with_shadow(EVERYTHING))
    before = cut_state(gate.partition, 1)
    assert live <= {decision.network for decision in gate.apply_shadow_change()}
    after = cut_state(gate.partition, 2)
    rows = len(gate.partition.state.rows)

    for changelog, left in (([before], live), ([before, after], set[str]())):
        owner = gate_of(restored(changelog, fresh(rows=rows)), [], with_shadow(EVERYTHING))
        withdrawn = {decision.network for decision in owner.reconcile()}

        assert withdrawn >= left
        assert bool(withdrawn) == bool(left)


def test_digests_of_different_shadows_differ() -> None:
    digests = [shadow.digest for shadow in (NO_SHADOW, *SHADOWS.values())]

    assert len(set(digests)) == len(digests)
    assert NO_SHADOW.digest == 0
