"""Who sends, by what is known of him: classes of senders by their closed active days, as the model counts them.

Kept apart from the engine's rows, so that two configurations are compared on the same classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.constants import DAY_MS, PROBATION_DAYS
from topics.columns.scan import ACCEPTED, EventColumns

ESTABLISHED_DAYS = 14
FIRST_DAYS = {"newcomer": 0, "probation": 1, "known": PROBATION_DAYS + 1, "established": ESTABLISHED_DAYS}
CLASSES = tuple(FIRST_DAYS)
WITH_HISTORY = ("known", "established")


def class_of(active_days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number in `CLASSES` for so many active days."""
    return np.searchsorted(np.array(list(FIRST_DAYS.values())), active_days, side="right") - 1


class Seen(NamedTuple):
    """What is known of a block's senders, an entry an event. ``classes``: number in `CLASSES`; ``first``: the sender's first
    accepted event of its day."""

    classes: npt.NDArray[np.int64]
    first: npt.NDArray[np.bool_]


@dataclass(slots=True)
class Past:
    """A sender so far: its latest day, the active days closed before it, the latest day with accepted mail."""

    day: int
    closed: int = 0
    accepted_day: int = -1


class Senders:
    """Every sender so far, one entry a key; blocks come in order."""

    def __init__(self) -> None:
        self._known: dict[int, Past] = {}

    def of(self, events: EventColumns) -> Seen:
        """The senders of a block's events."""
        days, accepted = events.ts_ms // DAY_MS, events.outcome == ACCEPTED
        order = np.lexsort((~accepted, days, events.key))  # of a sender's day, an accepted event first
        keys, stamps = events.key[order], days[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (keys[1:] != keys[:-1]) | (stamps[1:] != stamps[:-1])
        heads = order[np.flatnonzero(fresh)]
        closed = np.empty(len(heads), np.int64)
        first = np.zeros(len(order), bool)
        pairs = zip(heads.tolist(), events.key[heads].tolist(), days[heads].tolist(), strict=True)
        for i, (event, key, day) in enumerate(pairs):
            past = self._known.setdefault(key, Past(day))
            if day > past.day:
                past.day, past.closed = day, past.closed + 1
            if accepted[event] and day > past.accepted_day:
                past.accepted_day, first[event] = day, True
            closed[i] = past.closed
        found = np.empty(len(order), np.int64)
        found[order] = closed[np.cumsum(fresh) - 1]
        return Seen(class_of(found), first)
