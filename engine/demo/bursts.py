"""Volleys: so many connections of one address from one moment on, within a given time.

A newsletter's issue, a scanner's visit and every attack is made of them. Times are spread evenly, or thin out towards
the end as a mail-out does when its fast recipients are done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.demo.events import MTA_NAMES, SimulatedEvents
from engine.demo.timeline import ONE, QUANTILES, messages_per_connection

VOLLEY = np.dtype(
    [
        ("high", "u8"),
        ("low", "u8"),
        ("start_ms", "i8"),
        ("span_ms", "i8"),  # the last connection comes before start + span
        ("connections", "i8"),
        ("fresh_every", "i8"),  # 0: always from `low`; n: a fresh lower half every n connections
        ("habit", "u1"),  # messages a connection
        ("thins_out", "?"),
        ("outcome", "u1"),
        ("origin", "u1"),
        ("actor", "u1"),
    ]
)


def blank_volleys(count: int) -> npt.NDArray[Any]:
    """VOLLEY[count] of one accepted message a connection, from nobody in particular."""
    volleys = np.zeros(count, VOLLEY)
    volleys["habit"] = ONE
    volleys["span_ms"] = 1
    return volleys


def fire(rng: np.random.Generator, volleys: npt.NDArray[Any]) -> SimulatedEvents:
    """The events of VOLLEY[], unsorted, those of one volley together."""
    counts = volleys["connections"]
    total = int(counts.sum())
    owner = np.repeat(np.arange(len(volleys)), counts)
    number = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return SimulatedEvents(
        volleys["start_ms"][owner] + _delays(rng, volleys, owner),
        volleys["high"][owner],
        _lower_halves(rng, volleys, owner, number),
        messages_per_connection()[volleys["habit"][owner], rng.integers(0, QUANTILES, total)],
        volleys["outcome"][owner],
        rng.integers(0, len(MTA_NAMES), total, np.uint8),
        volleys["origin"][owner],
        volleys["actor"][owner],
    )


def _delays(rng: np.random.Generator, volleys: npt.NDArray[Any], owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each event's ms after its volley's start."""
    share = rng.integers(0, 1 << 20, len(owner))
    share = np.where(volleys["thins_out"][owner], share * share >> 20, share)
    delay_ms: npt.NDArray[np.int64] = share * volleys["span_ms"][owner] >> 20
    return delay_ms


def _lower_halves(
    rng: np.random.Generator, volleys: npt.NDArray[Any], owner: npt.NDArray[np.int64], number: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    low: npt.NDArray[np.uint64] = volleys["low"][owner]
    every = volleys["fresh_every"][owner]
    roaming = np.flatnonzero(every)
    turn = number[roaming] // every[roaming]
    fresh = rng.integers(0, 1 << 64, int(turn.max(initial=-1)) + 1, np.uint64)
    low[roaming] = fresh[turn] ^ low[roaming]
    return low
