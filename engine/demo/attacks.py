"""The attackers of the last day, one scenario each.

Their sizes are those of real attacks, not chosen so that the engine detects all of them. The snowshoe keeps each address
within a newcomer's limit, so only the pool rule over whole networks (`engine.detector.pools`) detects it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import ROTATION_SITE
from engine.demo.bursts import blank_bursts
from engine.demo.events import ATTACK, REGULAR, REJECTED
from engine.demo.scenarios import Scenario, attack_burst, scenario, sender_burst
from engine.demo.timeline import DAY_MS, HOUR_MS, MANY, Month, messages_per_connection

COMPANY_FACTOR, RELAY_FACTOR = 30, 10  # x the sender's own mean active hour


def attacks(rng: np.random.Generator, company: Any, relay: Any, month: Month) -> list[Scenario]:
    """Return all attackers. `company` and `relay` are the rows of SENDER[] that get compromised."""
    return [
        _dictionary(month),
        _compromised_company(company, month),
        _rotation(month),
        _compromised_relay(relay, month),
        _new_burst(month),
        _ramp(month),
        _snowshoe(rng, month),
        _return(rng, month),
    ]


def _compromised_company(company: Any, month: Month) -> Scenario:
    usual = company["daily"] / 10  # per hour: most of a company's mail falls into ten hours
    burst = sender_burst(company, month, (9, 12), round(COMPANY_FACTOR * usual * 3))
    burst["origin"] = ATTACK
    description = (
        f"A regular sender of about {usual:.0f} messages an hour is compromised and sends {COMPANY_FACTOR} times as much for "
        "three hours."
    )
    return scenario("compromised company", "compromised-sender", burst, description)


def _compromised_relay(relay: Any, month: Month) -> Scenario:
    usual = relay["daily"] / 24
    burst = sender_burst(relay, month, (13, 15), round(RELAY_FACTOR * usual * 2))
    burst["origin"], burst["habit"] = ATTACK, MANY
    messages = usual * float(messages_per_connection()[MANY].mean())
    description = (
        f"A big relay of about {messages:,.0f} messages an hour sends {RELAY_FACTOR} times as much for two hours."
    )
    return scenario("compromised relay", "compromised-relay", burst, description)


def _new_burst(month: Month) -> Scenario:
    burst = attack_burst("198.51.100.77", month, (14, 15), 5_000)
    return scenario("burst", "new-burst", burst, "An address never seen before sends 5,000 messages within an hour.")


def _ramp(month: Month) -> Scenario:
    stages = [attack_burst("198.51.100.140", month, (3 * i, 3 * i + 3), 3 * 2 << i) for i in range(8)]
    description = "A new address starts with 2 messages an hour and doubles its rate every three hours all day long."
    return scenario("slow ramp", "new-slow-ramp", np.concatenate(stages), description)


def _rotation(month: Month) -> Scenario:
    burst = attack_burst(f"2001:db8:{ROTATION_SITE:x}:cafe::", month, (10.5, 12.5), 1_500)
    burst["fresh_every"] = 2
    description = "One IPv6 /64 sends 1,500 messages in two hours, and changes its address after every second message."
    return scenario("rotating /64", "ipv6-rotation", burst, description)


def _snowshoe(rng: np.random.Generator, month: Month) -> Scenario:
    hosts = rng.permutation(np.arange(1, 255))[:64]
    bursts = np.concatenate([attack_burst(f"203.0.113.{host}", month, (16, 19), 30) for host in hosts])
    description = (
        "64 new addresses of one /24 send 10 messages an hour each for three hours: hardly any exceeds a newcomer's limit, "
        "only the network as a whole stands out."
    )
    return scenario("snowshoe", "snowshoe", bursts, description, "203.0.113.0/24")


def _return(rng: np.random.Generator, month: Month) -> Scenario:
    burst = attack_burst("192.0.2.45", month, (18, 19), 500)
    description = (
        "An address that sent little on twelve days, then nothing for over two weeks, sends 500 messages in an hour."
    )
    history = blank_bursts(12)
    history["high"], history["origin"] = burst["high"], REGULAR
    history["start_ms"] = month.start_ms + np.arange(1, 13) * DAY_MS + 8 * HOUR_MS
    history["span_ms"] = 9 * HOUR_MS
    history["connections"] = rng.integers(2, 9, 12)
    return scenario("returning address", "return-burst", burst, description)._replace(history=history)


def _dictionary(month: Month) -> Scenario:
    burst: npt.NDArray[Any] = attack_burst("198.51.100.201", month, (4, 4.5), 400)
    burst["outcome"] = REJECTED
    description = "A new address guesses 400 recipients in half an hour, and every guess is rejected."
    return scenario("dictionary attack", "dictionary", burst, description)
