"""The attackers of the last day, each one scene.

They are sized as attacks are, not so that the engine catches all: the snowshoe keeps each address within what any
newcomer may send, and only the rule over whole networks (`engine.detector.pools`) sees it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import ROTATION_SITE
from engine.demo.bursts import blank_volleys
from engine.demo.events import ATTACK, REGULAR, REJECTED
from engine.demo.scenarios import Scene, scene, volley_from, volley_of
from engine.demo.timeline import DAY_MS, HOUR_MS, MANY, Month, messages_per_connection

COMPANY_FACTOR, RELAY_FACTOR = 30, 10  # x the sender's own mean active hour


def attacks(rng: np.random.Generator, company: Any, relay: Any, month: Month) -> list[Scene]:
    """All attackers. ``company`` and ``relay`` are the rows of SENDER[] that get compromised."""
    return [
        _dictionary(month),
        _compromised_company(company, month),
        _rotation(month),
        _compromised_relay(relay, month),
        _burst(month),
        _ramp(month),
        _snowshoe(rng, month),
        _return(rng, month),
    ]


def _compromised_company(company: Any, month: Month) -> Scene:
    usual = company["daily"] / 10  # an hour: most of a company's mail falls into ten hours
    volley = volley_of(company, month, (9, 12), round(COMPANY_FACTOR * usual * 3))
    volley["origin"] = ATTACK
    story = (
        f"A regular sender of about {usual:.0f} messages an hour is taken over and sends {COMPANY_FACTOR} times as much for "
        "three hours."
    )
    return scene("compromised company", "compromised-sender", volley, story)


def _compromised_relay(relay: Any, month: Month) -> Scene:
    usual = relay["daily"] / 24
    volley = volley_of(relay, month, (13, 15), round(RELAY_FACTOR * usual * 2))
    volley["origin"], volley["habit"] = ATTACK, MANY
    messages = usual * float(messages_per_connection()[MANY].mean())
    story = f"A big relay of about {messages:,.0f} messages an hour sends {RELAY_FACTOR} times as much for two hours."
    return scene("compromised relay", "compromised-relay", volley, story)


def _burst(month: Month) -> Scene:
    volley = volley_from("198.51.100.77", month, (14, 15), 5_000)
    return scene("burst", "new-burst", volley, "An address never seen before sends 5,000 messages within an hour.")


def _ramp(month: Month) -> Scene:
    stages = [volley_from("198.51.100.140", month, (3 * i, 3 * i + 3), 3 * 2 << i) for i in range(8)]
    story = "A new address starts with 2 messages an hour and doubles its rate every three hours all day long."
    return scene("slow ramp", "new-slow-ramp", np.concatenate(stages), story)


def _rotation(month: Month) -> Scene:
    volley = volley_from(f"2001:db8:{ROTATION_SITE:x}:cafe::", month, (10.5, 12.5), 1_500)
    volley["fresh_every"] = 2
    story = "One IPv6 /64 sends 1,500 messages in two hours, from a fresh address after every second one."
    return scene("rotating /64", "ipv6-rotation", volley, story)


def _snowshoe(rng: np.random.Generator, month: Month) -> Scene:
    hosts = rng.permutation(np.arange(1, 255))[:64]
    volleys = np.concatenate([volley_from(f"203.0.113.{host}", month, (16, 19), 30) for host in hosts])
    story = (
        "64 new addresses of one /24 send 10 messages an hour each for three hours: hardly one exceeds what any newcomer may "
        "send, only the whole network stands out."
    )
    return scene("snowshoe", "snowshoe", volleys, story, "203.0.113.0/24")


def _return(rng: np.random.Generator, month: Month) -> Scene:
    volley = volley_from("192.0.2.45", month, (18, 19), 500)
    story = "An address that mailed a little on twelve days and was silent for over two weeks sends 500 messages in an hour."
    past = blank_volleys(12)
    past["high"], past["origin"] = volley["high"], REGULAR
    past["start_ms"] = month.start_ms + np.arange(1, 13) * DAY_MS + 8 * HOUR_MS
    past["span_ms"] = 9 * HOUR_MS
    past["connections"] = rng.integers(2, 9, 12)
    return scene("returning address", "return-burst", volley, story)._replace(before=past)


def _dictionary(month: Month) -> Scene:
    volley: npt.NDArray[Any] = volley_from("198.51.100.201", month, (4, 4.5), 400)
    volley["outcome"] = REJECTED
    story = "A new address guesses 400 recipients in half an hour, and every guess is rejected."
    return scene("dictionary attack", "dictionary", volley, story)
