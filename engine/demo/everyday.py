"""Everyday mail: from a table of senders to their connection events, with one random 64-bit word per event.

A day is the sender's own, by its time zone. So the local days before the first and after the last are drawn as well, and
events outside the month are removed later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.events import DEFERRED, REJECTED, SimulatedEvents
from engine.demo.timeline import DAY_MS, DAYS, SATURDAY, Month, messages_per_connection, times_of_day

_BURST_MS = 25 * 60_000
_MTA_OF_16 = np.array([0] * 8 + [1] * 5 + [2] * 3, np.uint8)  # the first MX gets most


def daily_counts(rng: np.random.Generator, senders: npt.NDArray[Any], month: Month) -> npt.NDArray[np.int64]:
    """Return connections, int64[sender, 33], per local day, from the day before the month to the day after it."""
    days = np.arange(-1, DAYS + 1)
    shape = (len(senders), len(days))
    weekend = month.weekday(days) >= SATURDAY
    first, last = senders["first_day"][:, None], senders["last_day"][:, None]
    chance = senders["active"][:, None] * np.where(weekend, senders["weekend_active"][:, None], 1.0)
    active = (rng.random(shape) < chance) & (days >= first) & (days <= last) | (days == first) & (first >= 0)
    daily_sigma = senders["daily_sigma"][:, None]
    factor = np.exp(daily_sigma * rng.standard_normal(shape) - daily_sigma * daily_sigma / 2)
    factor *= np.where(weekend, senders["weekend_volume"][:, None], 1.0)
    mailout = rng.random(shape) < senders["mailout"][:, None]
    factor *= np.where(mailout, rng.uniform(2.0, 6.0, shape), 1.0)
    mean = np.maximum(senders["daily"][:, None] * factor - 1.0, 0.0)
    counts: npt.NDArray[np.int64] = active * (1 + rng.poisson(mean))
    return counts


def everyday_mail(rng: np.random.Generator, senders: npt.NDArray[Any], month: Month) -> SimulatedEvents:
    """Return the events of SENDER[] in the month and the local days around it, unsorted."""
    counts = daily_counts(rng, senders, month)
    owner = np.repeat(np.arange(len(senders)), counts.sum(axis=1))
    word = rng.integers(0, 1 << 64, len(owner), np.uint64)
    slot, jitter, burst, message_draw, outcome_draw, mta_draw = _split(word, (12, 16, 8, 12, 10, 4))
    habit = senders["habit"][owner]
    return SimulatedEvents(
        _times(rng, senders, counts, (slot, jitter, burst)) + month.start_ms,
        senders["high"][owner],
        senders["low"][owner] ^ (word & (senders["hosts"] - np.uint64(1))[owner]),
        messages_per_connection()[habit, message_draw],
        _outcomes(senders["rejected"][owner], senders["deferred"][owner], outcome_draw),
        _MTA_OF_16[mta_draw],
        senders["origin"][owner],
        np.zeros(len(owner), np.uint8),
    )


def _split(word: npt.NDArray[np.uint64], widths: tuple[int, ...]) -> list[npt.NDArray[np.int32]]:
    """Return the bit fields of `word`, lowest first."""
    fields, at = [], 0
    for width in widths:
        fields.append((word >> np.uint64(at) & np.uint64((1 << width) - 1)).astype(np.int32))
        at += width
    return fields


def _times(
    rng: np.random.Generator,
    senders: npt.NDArray[Any],
    counts: npt.NDArray[np.int64],
    drawn: tuple[npt.NDArray[np.int32], ...],
) -> npt.NDArray[np.int64]:
    """Return UTC ms since the month's start: by the rhythm of the day, or soon after the start of the day's burst."""
    slot, jitter, burst = drawn
    table = times_of_day()
    sender, day = np.nonzero(counts)
    rhythm = senders["rhythm"][sender]
    burst_at = table[rhythm, rng.integers(0, table.shape[1], len(sender))]
    midnight = (day - 1) * DAY_MS - senders["utc_offset_ms"][sender]
    cell = np.repeat(np.arange(len(sender)), counts[sender, day])
    in_burst = burst < senders["burst"][sender][cell]
    wide = jitter.astype(np.int64)
    after = np.where(in_burst, (wide * wide >> 16) * _BURST_MS >> 16, wide)  # 65 s of jitter blur the bounds of a slot
    at: npt.NDArray[np.int64] = midnight[cell] + after
    at += np.where(in_burst, burst_at[cell], table[rhythm[cell], slot])
    return at


def _outcomes(
    rejected: npt.NDArray[np.int64], deferred: npt.NDArray[np.int64], draw: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    otherwise = np.where(draw < rejected + deferred, DEFERRED, 0)
    return np.where(draw < rejected, REJECTED, otherwise).astype(np.uint8)
