"""Background mail: weekly newsletters, and the noise that every mail exchanger on the internet receives.

A newsletter is sent on one weekday at one time to nearly the same number of recipients each week. Noise is short-lived
addresses whose connections are all rejected: scanners, and dictionary attackers that guess recipients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import lower_half, upper_half
from engine.demo.bursts import blank_bursts
from engine.demo.events import NEWSLETTER, NOISE, REJECTED
from engine.demo.senders import PUBLISHER
from engine.demo.timeline import DAY_MS, DAYS, HOUR_MS, MINUTE_MS, NONE, ONE, Month

TITLE = np.dtype(
    [("sender", "i8"), ("weekday", "i8"), ("at_ms", "i8"), ("readers", "i8"), ("span_ms", "i8"), ("first_day", "i8")]
)
_WEEKDAY_SHARES = (0.13, 0.22, 0.21, 0.22, 0.13, 0.05, 0.04)
_MIN_READERS, _MAX_READERS = 25, 4_000
_NEW_TITLES = 0.06  # share that appears first during the month

SCANNERS_A_DAY = 380
DICTIONARIES_A_DAY = 55
_NOISE_IPV6_SHARE = 0.03


def newsletters(rng: np.random.Generator, senders: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return TITLE[], one per publisher in SENDER[]; `at_ms` is the time of day in UTC."""
    publishers = np.flatnonzero(senders["kind"] == PUBLISHER)
    count = len(publishers)
    titles = np.zeros(count, TITLE)
    titles["sender"] = publishers
    titles["weekday"] = rng.choice(7, count, p=_WEEKDAY_SHARES)
    titles["at_ms"] = rng.integers(5 * 4, 18 * 4, count) * (15 * MINUTE_MS)
    readers = 110 * np.exp(1.0 * rng.standard_normal(count))
    titles["readers"] = np.clip(readers, _MIN_READERS, _MAX_READERS).astype(np.int64)
    titles["span_ms"] = rng.integers(10, 90, count) * MINUTE_MS
    titles["first_day"] = np.where(rng.random(count) < _NEW_TITLES, rng.integers(0, DAYS, count), 0)
    return titles


def issues(
    rng: np.random.Generator, titles: npt.NDArray[Any], senders: npt.NDArray[Any], month: Month
) -> npt.NDArray[Any]:
    """Return BURST[] of every newsletter's issues in the month, in time order for each."""
    days = np.arange(DAYS)
    due = (month.weekday(days) == titles["weekday"][:, None]) & (days >= titles["first_day"][:, None])
    index, day = np.nonzero(due)
    title, sender = titles[index], senders[titles["sender"][index]]
    bursts = blank_bursts(len(index))
    bursts["high"], bursts["low"] = sender["high"], sender["low"]
    delay_ms = rng.integers(0, 10 * MINUTE_MS, len(index))
    bursts["start_ms"] = month.start_ms + day * DAY_MS + title["at_ms"] + delay_ms
    bursts["span_ms"] = title["span_ms"]
    bursts["connections"] = title["readers"] * rng.uniform(0.93, 1.07, len(index))
    bursts["thins_out"] = True
    bursts["origin"] = NEWSLETTER
    return bursts


def noise_sizes(scale: float) -> tuple[int, int]:
    """Return the numbers of scanners and dictionary attackers in a month."""
    return round(SCANNERS_A_DAY * scale * DAYS), round(DICTIONARIES_A_DAY * scale * DAYS)


def noise(
    rng: np.random.Generator, slots: npt.NDArray[np.uint64], sizes: tuple[int, int], month: Month
) -> npt.NDArray[Any]:
    """Return BURST[] of scanners, then dictionary attackers, one per slot, at any time of the month."""
    scanners, dictionaries = sizes
    bursts = blank_bursts(scanners + dictionaries)
    is_v6 = rng.random(len(bursts)) < _NOISE_IPV6_SHARE
    bursts["high"], bursts["low"] = upper_half(slots, is_v6), lower_half(rng, is_v6)
    bursts["start_ms"] = month.start_ms + rng.integers(0, DAYS * DAY_MS, len(bursts))
    bursts["outcome"], bursts["origin"] = REJECTED, NOISE
    scans, guesses = bursts[:scanners], bursts[scanners:]
    scans["connections"] = rng.geometric(0.6, scanners)
    scans["span_ms"] = rng.integers(1, 12 * HOUR_MS, scanners)
    scans["habit"] = rng.choice([NONE, ONE], scanners)
    guesses["connections"] = np.clip(35 * np.exp(rng.standard_normal(dictionaries)), 4, 1_500).astype(np.int64)
    guesses["span_ms"] = rng.integers(2 * MINUTE_MS, 90 * MINUTE_MS, dictionaries)
    return bursts
