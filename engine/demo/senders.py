"""The regular senders and the newcomers: their properties, from which everyday mail is drawn.

Real senders are bursty and mostly inactive. So a day is active or not; an active day's volume has a log-normal factor of its
own; a few days are mail-outs of several times the usual volume; and part of a day's connections arrives in one burst. The
figures follow the logs of mail exchangers: on active days the daily volume of an established sender varies by about 0.6 of
its mean; its month's record is 3 to 10 times its median; a third to a half of a day falls into one hour. Of ten newcomers
nine send at most three messages on their first day, one in a hundred sends more than ten.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo.addresses import lower_half, upper_half
from engine.demo.events import NEWCOMER, REGULAR
from engine.demo.timeline import DAYS, EVEN, EVENING, FEW, HOUR_MS, MANY, ONE, WORKING

SENDER = np.dtype(
    [
        ("high", "u8"),
        ("low", "u8"),
        ("hosts", "u8"),  # 1, 2 or 4 neighbouring lower halves in use (IPv6)
        ("kind", "u1"),
        ("origin", "u1"),
        ("habit", "u1"),  # messages per connection
        ("rhythm", "u1"),
        ("utc_offset_ms", "i8"),
        ("daily", "f8"),  # mean connections of an active working day
        ("active", "f8"),  # share of working days that are active
        ("weekend_active", "f8"),  # both as shares of a working day's
        ("weekend_volume", "f8"),
        ("daily_sigma", "f8"),  # sigma of the day's log-normal factor
        ("mailout", "f8"),  # share of active days that are mail-outs
        ("burst", "i8"),  # of 256 connections, those in the day's burst
        ("rejected", "i8"),  # of 1,024 connections
        ("deferred", "i8"),
        ("first_day", "i8"),  # days of the month, both active
        ("last_day", "i8"),
    ]
)

RELAY, PROVIDER, COMPANY, SMALL, RARE, PUBLISHER, SHORT_LIVED, LASTING, MOVED_SERVER = range(9)


class Kind(NamedTuple):
    """A kind of sender. Fields without a comment are as in SENDER."""

    median: float  # of the log-normal of `daily`
    sigma: float  # of the log-normal of `daily`
    active: float
    weekend_active: float
    weekend_volume: float
    daily_sigma: float
    mailout: float
    burst: int
    habit: int


KINDS = (
    Kind(11_000, 0.5, 1.0, 1.0, 0.6, 0.12, 0.0, 6, MANY),
    Kind(350, 0.8, 1.0, 1.0, 0.65, 0.25, 0.005, 25, FEW),
    Kind(22, 1.0, 0.93, 0.45, 0.35, 0.45, 0.012, 80, FEW),
    Kind(2.6, 0.8, 0.5, 0.4, 0.7, 0.5, 0.008, 110, ONE),
    Kind(1.3, 0.5, 0.14, 0.6, 1.0, 0.5, 0.002, 80, ONE),
    Kind(2.0, 0.7, 0.35, 0.2, 0.7, 0.5, 0.0, 60, ONE),
    Kind(1.0, 0.6, 0.5, 0.6, 1.0, 0.4, 0.0, 100, ONE),
    Kind(1.4, 0.75, 0.4, 0.4, 0.8, 0.5, 0.004, 90, FEW),
    Kind(28, 0.8, 0.95, 0.5, 0.4, 0.4, 0.01, 50, FEW),
)
REGULARS = {RELAY: 5, PROVIDER: 160, COMPANY: 1_850, SMALL: 4_300, RARE: 2_300, PUBLISHER: 280}
NEWCOMERS_A_DAY = 220
_NEWCOMER_SHARES = {SHORT_LIVED: 0.70, LASTING: 0.293, MOVED_SERVER: 0.007}

_HALF_HOURS_EAST = (2, 0, 4, -10, -16, 11, 16, -6)
_ZONE_SHARES = (0.45, 0.13, 0.08, 0.14, 0.05, 0.05, 0.06, 0.04)
_IPV6_SHARE = 0.12


def regulars_at(scale: float) -> dict[int, int]:
    """Return the number of senders of each regular kind, at least one."""
    return {kind: max(1, round(count * scale)) for kind, count in REGULARS.items()}


def regulars(rng: np.random.Generator, slots: npt.NDArray[np.uint64], counts: dict[int, int]) -> npt.NDArray[Any]:
    """Return SENDER[] of those that send all month, sorted by kind, one per slot."""
    kinds = np.repeat(list(counts), list(counts.values()))
    senders = _drawn(rng, slots, kinds)
    senders["origin"] = REGULAR
    senders["first_day"], senders["last_day"] = -1, DAYS
    return senders


def newcomers(rng: np.random.Generator, slots: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Return SENDER[] of those that begin during the month, one per slot: most for a few days, some lasting, a few busy."""
    shares = list(_NEWCOMER_SHARES.values())
    senders = _drawn(rng, slots, rng.choice(list(_NEWCOMER_SHARES), len(slots), p=shares))
    senders["origin"] = NEWCOMER
    senders["first_day"] = rng.integers(0, DAYS, len(slots))
    stay = np.where(rng.random(len(slots)) < 0.85, 0, rng.integers(1, 6, len(slots)))
    senders["last_day"] = np.where(senders["kind"] == SHORT_LIVED, senders["first_day"] + stay, DAYS)
    return senders


def _drawn(rng: np.random.Generator, slots: npt.NDArray[np.uint64], kinds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    count = len(kinds)
    senders = np.zeros(count, SENDER)
    traits = {name: np.array([kind[i] for kind in KINDS])[kinds] for i, name in enumerate(Kind._fields)}
    for name in ("active", "weekend_active", "weekend_volume", "daily_sigma", "mailout", "burst", "habit"):
        senders[name] = traits[name]
    senders["kind"] = kinds
    senders["daily"] = traits["median"] * np.exp(traits["sigma"] * rng.standard_normal(count))
    senders["active"] **= rng.uniform(0.5, 2.0, count)
    is_v6 = rng.random(count) < _IPV6_SHARE
    senders["high"], senders["low"] = upper_half(slots, is_v6), lower_half(rng, is_v6)
    senders["hosts"] = np.where(is_v6, rng.choice([1, 2, 4], count, p=[0.85, 0.1, 0.05]), 1)
    senders["rhythm"] = np.where(kinds <= PROVIDER, EVENING, rng.choice([WORKING, EVEN], count, p=[0.7, 0.3]))
    senders["utc_offset_ms"] = rng.choice(_HALF_HOURS_EAST, count, p=_ZONE_SHARES) * (HOUR_MS // 2)
    senders["rejected"] = rng.choice([0, 3, 12, 40], count, p=[0.4, 0.3, 0.2, 0.1])
    senders["deferred"] = rng.choice([0, 2, 8], count, p=[0.5, 0.3, 0.2])
    return senders
