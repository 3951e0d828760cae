"""Simulate a month of inbound mail whose last day contains attacks: `simulate(seed, end_ms, scale)`.

NumPy only; no I/O, no clock. The seed determines everything. Each part draws from its own random stream, so a change of one
part leaves the others unchanged. At scale 1: 5.6 to 6.2 million events of about 29,000 senders, 8,400 of them regular; 1.5 to
3 s on one core and 0.65 GB. The scale changes numbers of senders, not their volumes or the actors.

Limits: addresses are invented and there is no content. Only the retry storm contains an MTA's retries, and mail that the
engine would have deferred is still there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo import background, hardcases
from engine.demo.addresses import assign_slots
from engine.demo.attacks import attacks
from engine.demo.bursts import burst_events
from engine.demo.events import MTA_NAMES, ORIGIN_NAMES, Actor, SimulatedEvents, merge
from engine.demo.everyday import everyday_mail
from engine.demo.scenarios import Scenario
from engine.demo.senders import COMPANY, NEWCOMERS_A_DAY, RELAY, newcomers, regulars, regulars_at
from engine.demo.timeline import DAYS, Month, month_until
from topics.keys import IPV4_TAG

__all__ = ["MTA_NAMES", "ORIGIN_NAMES", "Actor", "SimulatedEvents", "simulate"]

MIN_SCALE, MAX_SCALE = 0.01, 5.0
_ATTACKED_DAILY, _RETRYING_DAILY, _RELAY_DAILY = 60.0, 35.0, 11_000.0


class _Population(NamedTuple):
    regulars: npt.NDArray[Any]
    newcomers: npt.NDArray[Any]
    noise_slots: npt.NDArray[np.uint64]
    noise_sizes: tuple[int, int]
    spare_slots: npt.NDArray[np.uint64]


def simulate(seed: int, end_ms: int, scale: float = 1.0) -> SimulatedEvents:
    """Return the events of the 31 UTC days before `end_ms`, a UTC midnight in epoch ms.

    Raise ValueError for another end or a scale outside 0.01 to 5.
    """
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise ValueError(f"scale {scale:g} is not between {MIN_SCALE:g} and {MAX_SCALE:g}")
    month = month_until(end_ms)
    population_rng, mail_rng, newsletter_rng, noise_rng, actor_rng = (
        np.random.Generator(np.random.PCG64(stream)) for stream in np.random.SeedSequence(seed).spawn(5)
    )
    population = _populate(population_rng, scale)
    titles = background.newsletters(newsletter_rng, population.regulars)
    hardcases.set_weekly(titles[:1], month)
    issues = background.issues(newsletter_rng, titles, population.regulars, month)
    last = np.flatnonzero(issues["high"] == population.regulars["high"][titles["sender"][0]])[-1]
    scenarios = _scenarios(actor_rng, population, issues[last : last + 1].copy(), month)
    noise = background.noise(noise_rng, population.noise_slots, population.noise_sizes, month)
    senders = np.concatenate((population.regulars, population.newcomers))
    everyday = everyday_mail(mail_rng, senders, month)
    newsletters = burst_events(newsletter_rng, np.delete(issues, last))
    parts = [everyday, newsletters, burst_events(noise_rng, noise), _actor_events(actor_rng, scenarios)]
    return merge(parts, month)._replace(actors=[scenario.actor for scenario in scenarios])


def _populate(rng: np.random.Generator, scale: float) -> _Population:
    counts, noise_sizes = regulars_at(scale), background.noise_sizes(scale)
    sizes = [sum(counts.values()), round(NEWCOMERS_A_DAY * DAYS * scale), sum(noise_sizes), 2]
    own, new, noise, spare = np.split(assign_slots(rng, sum(sizes)), np.cumsum(sizes)[:-1])
    return _Population(regulars(rng, own, counts), newcomers(rng, new), noise, noise_sizes, spare)


def _scenarios(
    rng: np.random.Generator, population: _Population, fifth: npt.NDArray[Any], month: Month
) -> list[Scenario]:
    """Return the scenarios in order of start."""
    company = _nearest(population.regulars, COMPANY, _ATTACKED_DAILY)
    others = population.regulars[population.regulars["high"] != company["high"]]
    relay = _nearest(population.regulars, RELAY, _RELAY_DAILY)
    scenarios = attacks(rng, company, relay, month)
    scenarios += [
        hardcases.fifth_issue(fifth),
        hardcases.first_issue(population.spare_slots[:1], month),
        hardcases.moved_server(population.spare_slots[1:], month),
        hardcases.retry_storm(_nearest(others, COMPANY, _RETRYING_DAILY), month),
    ]
    return sorted(scenarios, key=lambda scenario: scenario.actor.start_ms)


def _nearest(senders: npt.NDArray[Any], kind: int, daily: float) -> Any:
    """Return the sender of a kind whose volume is nearest to `daily` connections, an IPv4 one if there is any."""
    distance = np.abs(np.log(senders["daily"] / daily))
    distance += np.where(senders["kind"] == kind, 0, 1e6) + np.where(senders["high"] >= np.uint64(IPV4_TAG), 0, 1e3)
    return senders[np.argmin(distance)]


def _actor_events(rng: np.random.Generator, scenarios: list[Scenario]) -> SimulatedEvents:
    """Return the events of the scenarios: their histories without an actor, then the last day's, marked with it."""
    for number, scenario in enumerate(scenarios, 1):
        scenario.bursts["actor"] = number
    return burst_events(
        rng, np.concatenate([scenario.history for scenario in scenarios] + [scenario.bursts for scenario in scenarios])
    )
