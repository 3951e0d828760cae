"""Classify senders by their closed active days, as the model counts them.

This is independent of an engine's rows, so that two configurations are compared on the same classes.
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
    """Return the index in `CLASSES` for numbers of active days."""
    return np.searchsorted(np.array(list(FIRST_DAYS.values())), active_days, side="right") - 1


class BlockSenders(NamedTuple):
    """The senders of a block, one entry per event."""

    classes: npt.NDArray[np.int64]  # indexes in `CLASSES`
    is_first_of_day: npt.NDArray[np.bool_]  # the sender's first accepted event of a day


@dataclass(slots=True)
class SenderDays:
    """The days of a sender so far, in days since 1970."""

    day: int  # the latest
    closed: int = 0  # number of active days before it
    accepted_day: int = -1  # the latest with accepted mail


class SenderClasses:
    """Classify the senders of blocks that come in order. Memory: one entry per key."""

    def __init__(self) -> None:
        self._days: dict[int, SenderDays] = {}

    def classify(self, events: EventColumns) -> BlockSenders:
        """Return the senders of a block's events and count their days."""
        days, accepted = events.ts_ms // DAY_MS, events.outcome == ACCEPTED
        order = np.lexsort((~accepted, days, events.key))  # an accepted event first within a sender's day
        keys, sorted_days = events.key[order], days[order]
        begins = np.ones(len(order), bool)
        begins[1:] = (keys[1:] != keys[:-1]) | (sorted_days[1:] != sorted_days[:-1])
        heads = order[np.flatnonzero(begins)]
        closed = np.empty(len(heads), np.int64)
        is_first = np.zeros(len(order), bool)
        triples = zip(heads.tolist(), events.key[heads].tolist(), days[heads].tolist(), strict=True)
        for i, (event, key, day) in enumerate(triples):
            sender = self._days.setdefault(key, SenderDays(day))
            if day > sender.day:
                sender.day, sender.closed = day, sender.closed + 1
            if accepted[event] and day > sender.accepted_day:
                sender.accepted_day, is_first[event] = day, True
            closed[i] = sender.closed
        active_days = np.empty(len(order), np.int64)
        active_days[order] = closed[np.cumsum(begins) - 1]
        return BlockSenders(class_of(active_days), is_first)
