"""A scene: one member of the cast and the volleys that are its story."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo.bursts import blank_volleys
from engine.demo.events import ATTACK, Actor
from engine.demo.timeline import HOUR_MS, Month
from topics.keys import key_of, network_text


class Scene(NamedTuple):
    """``volleys``: VOLLEY[] of the last day, what ``actor`` is about; ``before``: VOLLEY[] of its past, if it is not a sender
    of the population."""

    actor: Actor
    volleys: npt.NDArray[Any]
    before: npt.NDArray[Any]


def scene(name: str, kind: str, volleys: npt.NDArray[Any], story: str, network: str = "") -> Scene:
    """The scene that ``volleys`` play. They are an attack or not as their origin says; ``network`` defaults to the sender's."""
    start_ms = int(volleys["start_ms"].min())
    end_ms = int((volleys["start_ms"] + volleys["span_ms"]).max())
    network = network or network_text(int(volleys["high"][0]))
    attack = bool(volleys["origin"][0] == ATTACK)
    return Scene(Actor(name, kind, attack, network, start_ms, end_ms, story), volleys, blank_volleys(0))


def volley_from(ip: str, month: Month, hours: tuple[float, float], connections: int) -> npt.NDArray[Any]:
    """VOLLEY[1] of an attacker at ``ip``, on the last day between these two hours of the day (UTC)."""
    volley = blank_volleys(1)
    volley["high"] = np.uint64(key_of(ip))
    volley["start_ms"] = month.last_day_ms + round(hours[0] * HOUR_MS)
    volley["span_ms"] = round((hours[1] - hours[0]) * HOUR_MS)
    volley["connections"] = connections
    volley["origin"] = ATTACK
    return volley


def volley_of(sender: Any, month: Month, hours: tuple[float, float], connections: int) -> npt.NDArray[Any]:
    """VOLLEY[1] of one row of SENDER[], as in `volley_from`, in the sender's name and of its origin."""
    volley = volley_from("192.0.2.1", month, hours, connections)
    volley["high"], volley["low"], volley["origin"] = sender["high"], sender["low"], sender["origin"]
    return volley
