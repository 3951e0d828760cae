"""Mail that is nobody's everyday: weekly newsletters, and the noise that every exchanger on the internet hears.

A newsletter goes out on one weekday at one time to nearly the same number of recipients each week. Noise is short-lived
addresses whose connections all end rejected: scanners that look and leave, and dictionary attackers that guess recipients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import lower_half, upper_half
from engine.demo.bursts import blank_volleys
from engine.demo.events import NEWSLETTER, NOISE, REJECTED
from engine.demo.senders import PUBLISHER
from engine.demo.timeline import DAY_MS, DAYS, HOUR_MS, MINUTE_MS, NONE, ONE, Month

TITLE = np.dtype(
    [("sender", "i8"), ("weekday", "i8"), ("at_ms", "i8"), ("readers", "i8"), ("span_ms", "i8"), ("first_day", "i8")]
)
_WEEKDAY_SHARES = (0.13, 0.22, 0.21, 0.22, 0.13, 0.05, 0.04)
_FEWEST_READERS, _MOST_READERS = 25, 4_000
_NEW_TITLES = 0.06  # share that appears first during the month

SCANNERS_A_DAY = 380
DICTIONARIES_A_DAY = 55
_NOISE_IPV6_SHARE = 0.03


def newsletters(rng: np.random.Generator, senders: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """TITLE[], one for each publisher among SENDER[]; ``at_ms`` is the time of day in UTC."""
    publishers = np.flatnonzero(senders["kind"] == PUBLISHER)
    count = len(publishers)
    titles = np.zeros(count, TITLE)
    titles["sender"] = publishers
    titles["weekday"] = rng.choice(7, count, p=_WEEKDAY_SHARES)
    titles["at_ms"] = rng.integers(5 * 4, 18 * 4, count) * (15 * MINUTE_MS)
    readers = 110 * np.exp(1.0 * rng.standard_normal(count))
    titles["readers"] = np.clip(readers, _FEWEST_READERS, _MOST_READERS).astype(np.int64)
    titles["span_ms"] = rng.integers(10, 90, count) * MINUTE_MS
    titles["first_day"] = np.where(rng.random(count) < _NEW_TITLES, rng.integers(0, DAYS, count), 0)
    return titles


def issues(
    rng: np.random.Generator, titles: npt.NDArray[Any], senders: npt.NDArray[Any], month: Month
) -> npt.NDArray[Any]:
    """VOLLEY[] of every newsletter's issues in the month, in order of time for each."""
    days = np.arange(DAYS)
    due = (month.weekday(days) == titles["weekday"][:, None]) & (days >= titles["first_day"][:, None])
    which, day = np.nonzero(due)
    title, sender = titles[which], senders[titles["sender"][which]]
    volleys = blank_volleys(len(which))
    volleys["high"], volleys["low"] = sender["high"], sender["low"]
    late_ms = rng.integers(0, 10 * MINUTE_MS, len(which))
    volleys["start_ms"] = month.start_ms + day * DAY_MS + title["at_ms"] + late_ms
    volleys["span_ms"] = title["span_ms"]
    volleys["connections"] = title["readers"] * rng.uniform(0.93, 1.07, len(which))
    volleys["thins_out"] = True
    volleys["origin"] = NEWSLETTER
    return volleys


def noise_sizes(scale: float) -> tuple[int, int]:
    """How many scanners and dictionary attackers a month has."""
    return round(SCANNERS_A_DAY * scale * DAYS), round(DICTIONARIES_A_DAY * scale * DAYS)


def noise(
    rng: np.random.Generator, places: npt.NDArray[np.uint64], sizes: tuple[int, int], month: Month
) -> npt.NDArray[Any]:
    """VOLLEY[] of scanners, then dictionary attackers, one a place, at any time of the month."""
    scanners, dictionaries = sizes
    volleys = blank_volleys(scanners + dictionaries)
    is_v6 = rng.random(len(volleys)) < _NOISE_IPV6_SHARE
    volleys["high"], volleys["low"] = upper_half(places, is_v6), lower_half(rng, is_v6)
    volleys["start_ms"] = month.start_ms + rng.integers(0, DAYS * DAY_MS, len(volleys))
    volleys["outcome"], volleys["origin"] = REJECTED, NOISE
    looks, guesses = volleys[:scanners], volleys[scanners:]
    looks["connections"] = rng.geometric(0.6, scanners)
    looks["span_ms"] = rng.integers(1, 12 * HOUR_MS, scanners)
    looks["habit"] = rng.choice([NONE, ONE], scanners)
    guesses["connections"] = np.clip(35 * np.exp(rng.standard_normal(dictionaries)), 4, 1_500).astype(np.int64)
    guesses["span_ms"] = rng.integers(2 * MINUTE_MS, 90 * MINUTE_MS, dictionaries)
    return volleys
