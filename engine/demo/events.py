"""The result of the simulation: connection events in columns, in time order, and the actors that explain them.

`origin` and `actor` are the answer key for evaluating the engine; an engine must not read them.
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
    """A sender with a scenario on the last day.

    `SimulatedEvents.actor` marks the events of the scenario, not the same sender's everyday mail.
    """

    name: str
    kind: str
    attack: bool
    network: str  # CIDR
    start_ms: int  # epoch ms
    end_ms: int
    description: str  # one sentence


class SimulatedEvents(NamedTuple):
    """Columns of equal length, one entry per event, and the actors of a whole month."""

    ts_ms: npt.NDArray[np.int64]  # event time, epoch ms; in order in a whole month
    address_high: npt.NDArray[np.uint64]  # 64-bit key: upper half of an IPv6 address, or 0xFFFFFFFF00000000 | IPv4
    address_low: npt.NDArray[np.uint64]  # lower half, 0 for IPv4
    messages: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.uint8]  # 0 accepted, 1 deferred, 2 rejected
    mta: npt.NDArray[np.uint8]  # index into MTA_NAMES
    origin: npt.NDArray[np.uint8]  # index into ORIGIN_NAMES
    actor: npt.NDArray[np.uint8]  # 0, or 1 + index into `actors`
    actors: Sequence[Actor] = ()


def merge(parts: list[SimulatedEvents], month: Month) -> SimulatedEvents:
    """Return the parts' events inside a month, by time; equal times keep the order of the parts."""
    ts_ms = np.concatenate([part.ts_ms for part in parts])
    chosen = np.flatnonzero((ts_ms >= month.start_ms) & (ts_ms < month.end_ms))
    since = (ts_ms[chosen] - month.start_ms).astype(np.uint64)  # 31 days of ms fit into 32 bits, as does an index
    ranked = np.sort(since << np.uint64(32) | chosen.astype(np.uint64))
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
