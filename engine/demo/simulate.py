"""A simulated month of inbound mail whose last day holds the attacks: `simulate(seed, end_ms, scale)`.

Pure NumPy, no I/O, no clock. The seed decides everything: each part of the simulation draws from a stream of its own, so
a change of one leaves the others as they were. At scale 1: 5.6 to 6.2 million events of about 29,000 senders, 8,400 of
them regular; 1.5 to 3 s on one core and 0.65 GB. The scale moves numbers of senders, not their volumes, nor the cast.
What it is not: addresses are made up, content does not exist, an MTA's retries happen only in the retry storm, and what
the engine would have deferred is still there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo import background, hardcases
from engine.demo.addresses import settle
from engine.demo.attacks import attacks
from engine.demo.bursts import fire
from engine.demo.events import MTA_NAMES, ORIGIN_NAMES, Actor, SimulatedEvents, merge
from engine.demo.everyday import everyday_mail
from engine.demo.scenarios import Scene
from engine.demo.senders import COMPANY, NEWCOMERS_A_DAY, RELAY, newcomers, regulars, regulars_at
from engine.demo.timeline import DAYS, Month, month_until
from topics.keys import IPV4_TAG

__all__ = ["MTA_NAMES", "ORIGIN_NAMES", "Actor", "SimulatedEvents", "simulate"]

LEAST_SCALE, MOST_SCALE = 0.01, 5.0
_ATTACKED_DAILY, _RETRYING_DAILY, _RELAY_DAILY = 60.0, 35.0, 11_000.0


class _Population(NamedTuple):
    regulars: npt.NDArray[Any]
    newcomers: npt.NDArray[Any]
    noise_places: npt.NDArray[np.uint64]
    noise_sizes: tuple[int, int]
    spare_places: npt.NDArray[np.uint64]


def simulate(seed: int, end_ms: int, scale: float = 1.0) -> SimulatedEvents:
    """The 31 UTC days up to ``end_ms`` (a UTC midnight, epoch ms). ValueError for another end or a scale outside 0.01 to 5."""
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        raise ValueError(f"scale {scale:g} is not between {LEAST_SCALE:g} and {MOST_SCALE:g}")
    month = month_until(end_ms)
    people, letters, press, underworld, actors = (
        np.random.Generator(np.random.PCG64(stream)) for stream in np.random.SeedSequence(seed).spawn(5)
    )
    population = _populate(people, scale)
    titles = background.newsletters(press, population.regulars)
    hardcases.set_weekly(titles[:1], month)
    issues = background.issues(press, titles, population.regulars, month)
    last = np.flatnonzero(issues["high"] == population.regulars["high"][titles["sender"][0]])[-1]
    scenes = _scenes(actors, population, issues[last : last + 1].copy(), month)
    noise = background.noise(underworld, population.noise_places, population.noise_sizes, month)
    senders = np.concatenate((population.regulars, population.newcomers))
    everyday = everyday_mail(letters, senders, month)
    parts = [everyday, fire(press, np.delete(issues, last)), fire(underworld, noise), _play(actors, scenes)]
    return merge(parts, month)._replace(cast=[scene.actor for scene in scenes])


def _populate(rng: np.random.Generator, scale: float) -> _Population:
    counts, noise_sizes = regulars_at(scale), background.noise_sizes(scale)
    sizes = [sum(counts.values()), round(NEWCOMERS_A_DAY * DAYS * scale), sum(noise_sizes), 2]
    own, new, noise, spare = np.split(settle(rng, sum(sizes)), np.cumsum(sizes)[:-1])
    return _Population(regulars(rng, own, counts), newcomers(rng, new), noise, noise_sizes, spare)


def _scenes(rng: np.random.Generator, population: _Population, fifth: npt.NDArray[Any], month: Month) -> list[Scene]:
    """The cast, in order of appearance."""
    company = _nearest(population.regulars, COMPANY, _ATTACKED_DAILY)
    others = population.regulars[population.regulars["high"] != company["high"]]
    relay = _nearest(population.regulars, RELAY, _RELAY_DAILY)
    scenes = attacks(rng, company, relay, month)
    scenes += [
        hardcases.fifth_issue(fifth),
        hardcases.first_issue(population.spare_places[:1], month),
        hardcases.moved_server(population.spare_places[1:], month),
        hardcases.retry_storm(_nearest(others, COMPANY, _RETRYING_DAILY), month),
    ]
    return sorted(scenes, key=lambda scene: scene.actor.start_ms)


def _nearest(senders: npt.NDArray[Any], kind: int, daily: float) -> Any:
    """The IPv4 sender of this kind, if there is one, whose volume is nearest to ``daily`` connections."""
    distance = np.abs(np.log(senders["daily"] / daily))
    distance += np.where(senders["kind"] == kind, 0, 1e6) + np.where(senders["high"] >= np.uint64(IPV4_TAG), 0, 1e3)
    return senders[np.argmin(distance)]


def _play(rng: np.random.Generator, scenes: list[Scene]) -> SimulatedEvents:
    """The scenes' events: their past under no actor's name, then the last day's, each marked with its actor."""
    for number, scene in enumerate(scenes, 1):
        scene.volleys["actor"] = number
    return fire(rng, np.concatenate([scene.before for scene in scenes] + [scene.volleys for scene in scenes]))
