"""What the demo has to tell at its end: who of the cast was held, when, and why; and what it cost everybody else.

Judged with the simulation's answer key, which the engine never sees.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

import numpy as np

from engine.demo.events import ATTACK, NEWCOMER, NEWSLETTER, NOISE, ORIGIN_NAMES, REGULAR, Actor, SimulatedEvents
from engine.detector.constants import DAY_MS
from topics.decisions import THROTTLE, Decision
from topics.keys import key_of_network


@dataclass(frozen=True, slots=True)
class Outcome:
    """An actor's fate. ``first``: its first throttle, None without one; ``before``: messages it had offered until then;
    ``messages``: all that it offered; ``networks``: how many of its networks were throttled."""

    actor: Actor
    first: Decision | None
    before: int
    messages: int
    networks: int


def outcomes(events: SimulatedEvents, decisions: list[Decision]) -> list[Outcome]:
    """One for each actor, in order of appearance."""
    return [_outcome(number, actor, events, decisions) for number, actor in enumerate(events.cast, 1)]


def _outcome(number: int, actor: Actor, events: SimulatedEvents, decisions: list[Decision]) -> Outcome:
    own = np.flatnonzero(events.actor == number)
    network = ipaddress.ip_network(actor.network)
    found = [
        decision
        for decision in decisions
        if decision.verdict == THROTTLE
        and actor.start_ms <= decision.issued <= actor.end_ms
        and _inside(decision.network, network)
    ]
    first = min(found, key=lambda decision: decision.issued, default=None)
    until = own if first is None else own[events.ts_ms[own] <= first.issued]
    return Outcome(
        actor,
        first,
        int(events.messages[until].sum()),
        int(events.messages[own].sum()),
        len({decision.network for decision in found}),
    )


def _inside(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    inner = ipaddress.ip_network(text)
    return inner.version == network.version and inner.subnet_of(network)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Toll:
    """Senders of one origin, and how many of them were ever throttled on the last day."""

    origin: str
    senders: int
    throttled: int


def tolls(events: SimulatedEvents, decisions: list[Decision]) -> list[Toll]:
    """The last day's senders by what they are; a sender counts as the worst thing that it did."""
    day_ms = int(events.ts_ms[-1]) // DAY_MS * DAY_MS
    last = slice(int(np.searchsorted(events.ts_ms, day_ms)), None)
    keys, place = np.unique(events.address_high[last], return_inverse=True)
    origin = np.zeros(len(keys), np.uint8)
    np.maximum.at(origin, place, events.origin[last])
    throttled = {
        key_of_network(decision.network)
        for decision in decisions
        if decision.verdict == THROTTLE and decision.issued >= day_ms
    }
    hit = Counter(int(kind) for key, kind in zip(keys.tolist(), origin, strict=True) if key in throttled)
    return [
        Toll(ORIGIN_NAMES[kind], int((origin == kind).sum()), hit[kind])
        for kind in (REGULAR, NEWSLETTER, NEWCOMER, NOISE, ATTACK)
    ]
