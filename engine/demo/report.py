"""Evaluate the demo: which actors were throttled, when and why, and how many other senders were.

The evaluation uses the simulation's answer key, which the engine never reads.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

import numpy as np

from engine.demo.events import ATTACK, NEWCOMER, NEWSLETTER, NOISE, ORIGIN_NAMES, REGULAR, Actor, SimulatedEvents
from engine.detector.constants import DAY_MS
from topics.decisions import THROTTLE, Decision
from topics.networks import key_of_network


@dataclass(frozen=True, slots=True)
class ActorOutcome:
    """The throttles of an actor."""

    actor: Actor
    first: Decision | None  # its first throttle
    before: int  # messages offered until then
    messages: int  # all messages offered
    networks: int  # number of its networks that were throttled


def outcomes(events: SimulatedEvents, decisions: list[Decision]) -> list[ActorOutcome]:
    """Return the outcome of each actor, in order of start."""
    return [_outcome(number, actor, events, decisions) for number, actor in enumerate(events.actors, 1)]


def _outcome(number: int, actor: Actor, events: SimulatedEvents, decisions: list[Decision]) -> ActorOutcome:
    own = np.flatnonzero(events.actor == number)
    network = ipaddress.ip_network(actor.network)
    throttles = [
        decision
        for decision in decisions
        if decision.verdict == THROTTLE
        and actor.start_ms <= decision.issued <= actor.end_ms
        and _is_inside(decision.network, network)
    ]
    first = min(throttles, key=lambda decision: decision.issued, default=None)
    until = own if first is None else own[events.ts_ms[own] <= first.issued]
    return ActorOutcome(
        actor,
        first,
        int(events.messages[until].sum()),
        int(events.messages[own].sum()),
        len({decision.network for decision in throttles}),
    )


def _is_inside(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    inner = ipaddress.ip_network(text)
    return inner.version == network.version and inner.subnet_of(network)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class OriginThrottles:
    """The senders of one origin on the last day."""

    origin: str
    senders: int
    throttled: int  # at least once


def throttles_by_origin(events: SimulatedEvents, decisions: list[Decision]) -> list[OriginThrottles]:
    """Return the last day's senders by origin; a sender with events of several origins counts as the worst."""
    day_ms = int(events.ts_ms[-1]) // DAY_MS * DAY_MS
    last = slice(int(np.searchsorted(events.ts_ms, day_ms)), None)
    keys, index = np.unique(events.address_high[last], return_inverse=True)
    origin = np.zeros(len(keys), np.uint8)
    np.maximum.at(origin, index, events.origin[last])
    throttled = {
        key_of_network(decision.network)
        for decision in decisions
        if decision.verdict == THROTTLE and decision.issued >= day_ms
    }
    hit = Counter(int(kind) for key, kind in zip(keys.tolist(), origin, strict=True) if key in throttled)
    return [
        OriginThrottles(ORIGIN_NAMES[kind], int((origin == kind).sum()), hit[kind])
        for kind in (REGULAR, NEWSLETTER, NEWCOMER, NOISE, ATTACK)
    ]
