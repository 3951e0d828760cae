"""Shadows and the first law: what is decided in shadow is what would be decided without one, and defers nobody.

Invariants tested: a shadow changes what decisions are called and nothing else; an edge that holds a shadow's decisions tells
of exactly those messages which it would have deferred; once a shadow has fallen nothing live is left under it, whatever the
moment, and a restart says nothing of it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_network

import pytest

from engine.decisions.compose import Composer
from engine.decisions.override_index import Book
from engine.decisions.publish_gate import Gate
from engine.decisions.shadow import NO_SHADOW, Shadow
from engine.edge.decision_row import Row, read_decision
from engine.edge.lookup import EXCESS, SHADOW, lookup
from engine.edge.table import Table
from engine.state.encode import take_cut
from engine.state.partition import Partition
from tests.laws.test_overrides import COMPOSER
from tests.support.crowds import besieged_sequence
from tests.support.runs import fresh, restored, state_of
from tests.support.sequences import Event, columns_of, crowd_sequence, rich_sequence
from topics.decisions import OVERRIDE, RELEASE, THROTTLE, Decision, encode_decision
from topics.keys import key_text

EVERYTHING = Shadow(everything=True)
SHADOWS = {
    "everything": EVERYTHING,
    "volume": Shadow(reasons=frozenset({"volume"})),
    "probation": Shadow(reasons=frozenset({"probation"})),
    "pool": Shadow(reasons=frozenset({"pool"})),
    "networks": Shadow(
        networks=("0.0.0.0/25", "10.9.3.0/24", "198.51.100.0/30", "2a0b:f00d:0:7::/64", "2001:db8::/60")
    ),
    "both": Shadow(reasons=frozenset({"pool"}), networks=("0.0.0.0/1",)),
}
SITES = {
    "senders": (rich_sequence(7, 4000), 4096),
    "crowds": (crowd_sequence(5, 12_000), 4096),
    "floods": (besieged_sequence(3, 30_000), 64),
}


def gate_of(partition: Partition, shadow: Shadow) -> Gate:
    return Gate(Book(), partition, with_shadow(shadow), "exemptions")


def with_shadow(shadow: Shadow) -> Composer:
    return replace(COMPOSER, shadow=shadow)


@lru_cache(maxsize=32)
def run(site: str, shadow: Shadow) -> tuple[list[tuple[int, Decision]], Partition]:
    """What is said at which event, and the partition afterwards."""
    events, rows = SITES[site]
    gate = gate_of(fresh(rows=rows), shadow)
    return list(gate.apply(columns_of(events), 0, len(events))), gate.partition


def falls(decision: Decision, shadow: Shadow) -> bool:
    """Whether a decision falls in a shadow, plainly."""
    judged = ip_network(decision.evidence.get("within", decision.network))
    around = [ip_network(network) for network in shadow.networks]
    touched = any(judged.version == one.version and judged.overlaps(one) for one in around)
    return shadow.everything or decision.reason in shadow.reasons or touched


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", SHADOWS)
def test_a_shadow_changes_what_decisions_are_called_and_nothing_else(site: str, name: str) -> None:
    shadow = SHADOWS[name]
    (plain, partition), (shaded, other) = run(site, NO_SHADOW), run(site, shadow)
    assert state_of(partition) == state_of(other)
    assert len(plain) == len(shaded)
    for (event, live), (same, said) in zip(plain, shaded, strict=True):
        marked = live.verdict == THROTTLE and falls(live, shadow)
        assert (same, said) == (event, replace(live, verdict="shadow") if marked else live)


def test_the_sites_have_decisions_of_all_kinds() -> None:
    """Or the other laws would say little."""
    kinds = Counter(
        (site, decision.reason, "within" in decision.evidence)
        for site in SITES
        for _, decision in run(site, NO_SHADOW)[0]
        if decision.verdict == THROTTLE
    )
    for kind in (("senders", "volume", False), ("senders", "probation", False), ("crowds", "pool", False)):
        assert kinds[kind] > 20, kind
    assert kinds["floods", "pool", False] > 20
    assert kinds["floods", "pool", True] >= 3


def answers(site: str, shadow: Shadow) -> Iterator[str]:
    """What an edge answers at each event."""
    said, _ = run(site, shadow)
    table, waiting = Table(10_000), iter([*said, (1 << 40, said[-1][1])])
    table.trusted_until_ms = 1 << 60
    number, decision = next(waiting)
    for i, event in enumerate(SITES[site][0]):
        while number <= i:
            take(table, decision, event.ts_ms)
            number, decision = next(waiting)
        for _ in range(min(event.messages, 9)):
            yield lookup(key_text(event.key).removesuffix("/64"), table, event.ts_ms).why


def take(table: Table, decision: Decision, now_ms: int) -> None:
    body = encode_decision(decision)
    released = decision.verdict == RELEASE
    found = read_decision(decision.network.encode(), None if released else body, body if released else None)
    if isinstance(found, Row):
        table.put(found, now_ms)
    else:
        table.release(found)


@pytest.mark.parametrize("site", SITES)
def test_an_edge_defers_nobody_in_the_shadow_and_tells_of_whom_it_would_have(site: str) -> None:
    live, shaded = list(answers(site, NO_SHADOW)), list(answers(site, EVERYTHING))
    assert live.count(EXCESS) > 100
    assert EXCESS not in shaded
    assert [why == EXCESS for why in live] == [why == SHADOW for why in shaded]


@dataclass
class Reader:
    """What a reader of the topic holds, by the rules of `topics.decisions` alone."""

    held: dict[str, tuple[tuple[int, bool], Decision]] = field(default_factory=dict)

    def take(self, said: Iterable[Decision]) -> list[Decision]:
        taken = list(said)
        for decision in taken:
            released = decision.verdict == RELEASE
            place = decision.source.offset + (released and decision.reason == OVERRIDE), not released
            if place >= self.held.get(decision.network, ((-1, False), decision))[0]:
                self.held[decision.network] = place, decision
        return taken

    def live(self, at_ms: int) -> list[Decision]:
        return [made for _, made in self.held.values() if made.verdict == THROTTLE and made.until > at_ms]


def clock_ms(gate: Gate) -> int:
    return int(gate.partition.state.site["clock_ms"][0])


def cuts(site: str, shadow: Shadow, most: int) -> list[int]:
    """Events behind throttles that would fall in a shadow, spread over all of them."""
    found = [event for event, made in run(site, NO_SHADOW)[0] if made.verdict == THROTTLE and falls(made, shadow)]
    return [event + 1 for event in found[:: max(1, len(found) // most)]][-most:]


def to_the_cut(site: str, cut: int) -> tuple[Gate, Reader, Sequence[Event]]:
    """A site without a shadow up to some event, and what its reader holds then."""
    events, rows = SITES[site]
    gate, reader = gate_of(fresh(rows=rows), NO_SHADOW), Reader()
    reader.take(decision for _, decision in gate.apply(columns_of(events), 0, cut))
    return gate, reader, events


def test_shadows_fall_on_all_sites() -> None:
    """Or the next law would say little."""
    assert {(site, name) for site in SITES for name, shadow in SHADOWS.items() if cuts(site, shadow, 3)} >= {
        *((site, "everything") for site in SITES), *((site, "probation") for site in SITES),
        ("senders", "volume"), ("senders", "networks"), ("crowds", "pool"), ("floods", "pool"), ("floods", "networks"),
    }  # fmt: skip


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", SHADOWS)
def test_nothing_live_is_left_under_a_shadow_that_has_fallen(site: str, name: str) -> None:
    for cut in cuts(site, SHADOWS[name], 3):
        let_fall(SHADOWS[name], site, cut)


def let_fall(shadow: Shadow, site: str, cut: int) -> None:
    gate, reader, events = to_the_cut(site, cut)
    gate.composer = with_shadow(shadow)
    before = [made for made in reader.live(clock_ms(gate)) if falls(made, shadow)]
    withdrawn = reader.take(gate.turned())
    assert {made.network for made in before} <= {made.network for made in withdrawn}
    assert {(made.verdict, made.reason) for made in withdrawn} <= {(RELEASE, OVERRIDE)}
    assert [made for made in reader.live(clock_ms(gate)) if falls(made, shadow)] == []
    assert list(gate.turned()) == []
    columns = columns_of(events)
    for first in range(cut, len(events), 500):
        reader.take(decision for _, decision in gate.apply(columns, first, min(first + 500, len(events))))
        assert [made for made in reader.live(clock_ms(gate)) if falls(made, shadow)] == []


def test_what_lies_outside_of_a_shadow_stays() -> None:
    shadow, withdrawn = SHADOWS["networks"], 0
    for site, cut in [(one, cut) for one in SITES for cut in cuts(one, shadow, 8)]:
        gate, reader, _ = to_the_cut(site, cut)
        before = {made.network: made for made in reader.live(clock_ms(gate))}
        gate.composer = with_shadow(shadow)
        gone = {made.network for made in gate.turned()}
        assert {network for network, made in before.items() if falls(made, shadow)} == gone & before.keys()
        withdrawn += len(gone & before.keys())
    assert withdrawn > 5


@pytest.mark.parametrize("site", SITES)
def test_a_new_owner_says_nothing_again_under_the_same_shadow_and_all_of_it_under_another(site: str) -> None:
    gate, reader, _ = to_the_cut(site, cuts(site, EVERYTHING, 3)[-1])
    live = {made.network for made in reader.live(clock_ms(gate))}
    gate.composer = with_shadow(EVERYTHING)
    unsaid = take_cut(gate.partition, 1)
    assert live <= {made.network for made in gate.turned()}
    said = take_cut(gate.partition, 2)
    rows = len(gate.partition.state.rows)
    for changelog, left in (([unsaid], live), ([unsaid, said], set[str]())):
        owner = gate_of(restored(changelog, fresh(rows=rows)), EVERYTHING)
        found = {made.network for made in owner.anew()}
        assert found >= left
        assert bool(found) == bool(left)


def test_digests_tell_shadows_apart() -> None:
    digests = [shadow.digest for shadow in (NO_SHADOW, *SHADOWS.values())]
    assert len(set(digests)) == len(digests)
    assert NO_SHADOW.digest == 0
