"""A scenario: one actor and the bursts of its events."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo.bursts import blank_bursts
from engine.demo.events import ATTACK, Actor
from engine.demo.timeline import HOUR_MS, Month
from topics.keys import key_of
from topics.networks import network_text


class Scenario(NamedTuple):
    """An actor and its events."""

    actor: Actor
    bursts: npt.NDArray[Any]  # BURST[] of the last day
    history: npt.NDArray[Any]  # BURST[] of earlier days, unless it is a sender of the population


def scenario(name: str, kind: str, bursts: npt.NDArray[Any], description: str, network: str = "") -> Scenario:
    """Return the scenario of bursts, an attack if their origin is ATTACK. `network` defaults to the sender's."""
    start_ms = int(bursts["start_ms"].min())
    end_ms = int((bursts["start_ms"] + bursts["span_ms"]).max())
    network = network or network_text(int(bursts["high"][0]))
    attack = bool(bursts["origin"][0] == ATTACK)
    return Scenario(Actor(name, kind, attack, network, start_ms, end_ms, description), bursts, blank_bursts(0))


def attack_burst(ip: str, month: Month, hours: tuple[float, float], connections: int) -> npt.NDArray[Any]:
    """Return BURST[1] of an attacker at `ip` on the last day between two hours of the day (UTC)."""
    burst = blank_bursts(1)
    burst["high"] = np.uint64(key_of(ip))
    burst["start_ms"] = month.last_day_ms + round(hours[0] * HOUR_MS)
    burst["span_ms"] = round((hours[1] - hours[0]) * HOUR_MS)
    burst["connections"] = connections
    burst["origin"] = ATTACK
    return burst


def sender_burst(sender: Any, month: Month, hours: tuple[float, float], connections: int) -> npt.NDArray[Any]:
    """Return BURST[1] as `attack_burst`, with address and origin of one row of SENDER[]."""
    burst = attack_burst("192.0.2.1", month, hours, connections)
    burst["high"], burst["low"], burst["origin"] = sender["high"], sender["low"], sender["origin"]
    return burst
