"""Bursts: a number of connections of one address within a given time.

A newsletter's issue, a scanner's visit and every attack consist of them. Times are spread evenly, or become sparser towards
the end, as in a mail-out after its fast recipients are done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.events import MTA_NAMES, SimulatedEvents
from engine.demo.timeline import ONE, QUANTILES, messages_per_connection

BURST = np.dtype(
    [
        ("high", "u8"),
        ("low", "u8"),
        ("start_ms", "i8"),
        ("span_ms", "i8"),  # all connections are before start + span
        ("connections", "i8"),
        ("fresh_every", "i8"),  # 0: always from `low`; n: another lower half after every n connections
        ("habit", "u1"),  # messages per connection
        ("thins_out", "?"),
        ("outcome", "u1"),
        ("origin", "u1"),
        ("actor", "u1"),
    ]
)


def blank_bursts(count: int) -> npt.NDArray[Any]:
    """Return BURST[count] of one accepted message per connection, without address."""
    bursts = np.zeros(count, BURST)
    bursts["habit"] = ONE
    bursts["span_ms"] = 1
    return bursts


def burst_events(rng: np.random.Generator, bursts: npt.NDArray[Any]) -> SimulatedEvents:
    """Return the events of BURST[], grouped by burst, unsorted within."""
    counts = bursts["connections"]
    total = int(counts.sum())
    owner = np.repeat(np.arange(len(bursts)), counts)
    number = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return SimulatedEvents(
        bursts["start_ms"][owner] + _delays(rng, bursts, owner),
        bursts["high"][owner],
        _lower_halves(rng, bursts, owner, number),
        messages_per_connection()[bursts["habit"][owner], rng.integers(0, QUANTILES, total)],
        bursts["outcome"][owner],
        rng.integers(0, len(MTA_NAMES), total, np.uint8),
        bursts["origin"][owner],
        bursts["actor"][owner],
    )


def _delays(rng: np.random.Generator, bursts: npt.NDArray[Any], owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ms of each event after its burst's start."""
    share = rng.integers(0, 1 << 20, len(owner))
    share = np.where(bursts["thins_out"][owner], share * share >> 20, share)
    delay_ms: npt.NDArray[np.int64] = share * bursts["span_ms"][owner] >> 20
    return delay_ms


def _lower_halves(
    rng: np.random.Generator, bursts: npt.NDArray[Any], owner: npt.NDArray[np.int64], number: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    low: npt.NDArray[np.uint64] = bursts["low"][owner]
    every = bursts["fresh_every"][owner]
    rotating = np.flatnonzero(every)
    index = number[rotating] // every[rotating]
    fresh = rng.integers(0, 1 << 64, int(index.max(initial=-1)) + 1, np.uint64)
    low[rotating] = fresh[index] ^ low[rotating]
    return low
