"""What the simulation gives: connection events in columns, in order of time, and the cast that explains them.

``origin`` and ``actor`` are the answer key, for whoever judges the engine; an engine must not read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.demo.timeline import Month

MTA_NAMES = ("mx1.example.net", "mx2.example.net", "mx3.example.net")
ACCEPTED, DEFERRED, REJECTED = 0, 1, 2

REGULAR, NEWSLETTER, NEWCOMER, NOISE, ATTACK = range(5)
ORIGIN_NAMES = ("regular", "newsletter", "newcomer", "noise", "attack")


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody worth watching on the last day. ``network``: CIDR; ``start_ms``, ``end_ms``: when, epoch ms; ``story``: one
    sentence. `SimulatedEvents.actor` marks exactly the events of the story, not the same sender's everyday mail."""

    name: str
    kind: str
    attack: bool
    network: str
    start_ms: int
    end_ms: int
    story: str


class SimulatedEvents(NamedTuple):
    """One array a field, all of the same length; the ``cast``, of a whole month.

    ``ts_ms``: event time, epoch ms, in order in a whole month; ``address_high``: the 64-bit key, which is the upper half of an
    IPv6 address or 0xFFFFFFFF00000000 | IPv4; ``address_low``: the lower half, 0 for IPv4; ``outcome``: 0 accepted, 1 deferred,
    2 rejected; ``mta``: index into MTA_NAMES; ``origin``: index into ORIGIN_NAMES; ``actor``: 0, or 1 + index into the cast."""

    ts_ms: npt.NDArray[np.int64]
    address_high: npt.NDArray[np.uint64]
    address_low: npt.NDArray[np.uint64]
    messages: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.uint8]
    mta: npt.NDArray[np.uint8]
    origin: npt.NDArray[np.uint8]
    actor: npt.NDArray[np.uint8]
    cast: Sequence[Actor] = ()


def merge(parts: list[SimulatedEvents], month: Month) -> SimulatedEvents:
    """The parts' events that lie inside ``month``, by time; equal times stay in the order of the parts."""
    ts_ms = np.concatenate([part.ts_ms for part in parts])
    inside = np.flatnonzero((ts_ms >= month.start_ms) & (ts_ms < month.end_ms))
    since = (ts_ms[inside] - month.start_ms).astype(np.uint64)  # 31 days of ms fit 32 bits, an event's number does too
    ranked = np.sort(since << np.uint64(32) | inside.astype(np.uint64))
    order = (ranked & np.uint64(0xFFFFFFFF)).astype(np.int64)

    def ordered(columns: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate(list(columns))[order]

    return SimulatedEvents(
        (ranked >> np.uint64(32)).astype(np.int64) + month.start_ms,
        ordered(part.address_high for part in parts),
        ordered(part.address_low for part in parts),
        ordered(part.messages for part in parts),
        ordered(part.outcome for part in parts),
        ordered(part.mta for part in parts),
        ordered(part.origin for part in parts),
        ordered(part.actor for part in parts),
    )
