"""Who has been told what: a condition is told once it has lasted, again while it lasts on, and once it is over. Pure.

Nothing is told of what comes and goes within the hold, so that a figure around its limit makes no noise: what was told stays
told until it has been away for as long. At most `MOST` conditions are kept; beyond, new ones wait until others are over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.notify.conditions import Condition

BEGUN, LASTS, OVER = "begun", "lasts", "over"
MOST = 1_000


class Notice(NamedTuple):
    """``state``: begun, lasts or over; ``since_ms``: when the condition was first seen."""

    state: str
    condition: Condition
    since_ms: int


@dataclass(slots=True)
class _Entry:
    condition: Condition
    since_ms: int
    seen_ms: int
    told_ms: int | None = None


class Ledger:
    """``hold_ms``: how long a condition must last, or be away; ``repeat_ms``: how often it is told while it lasts."""

    def __init__(self, hold_ms: int, repeat_ms: int) -> None:
        self._hold_ms, self._repeat_ms = hold_ms, repeat_ms
        self._entries: dict[str, _Entry] = {}

    def turn(self, found: Iterable[Condition], now_ms: int) -> list[Notice]:
        """What is to be told, given all conditions that hold at ``now_ms``."""
        for condition in found:
            entry = self._entries.get(condition.name)
            if entry is not None:
                entry.condition, entry.seen_ms = condition, now_ms
            elif len(self._entries) < MOST:
                self._entries[condition.name] = _Entry(condition, now_ms, now_ms)
        return [notice for name in list(self._entries) for notice in self._turn(name, now_ms)]

    def _turn(self, name: str, now_ms: int) -> Iterator[Notice]:
        entry = self._entries[name]
        if entry.seen_ms < now_ms:
            if entry.told_ms is None:
                del self._entries[name]
            elif now_ms - entry.seen_ms >= self._hold_ms:
                del self._entries[name]
                yield Notice(OVER, entry.condition, entry.since_ms)
        elif entry.told_ms is None:
            if now_ms - entry.since_ms >= self._hold_ms:
                entry.told_ms = now_ms
                yield Notice(BEGUN, entry.condition, entry.since_ms)
        elif now_ms - entry.told_ms >= self._repeat_ms:
            entry.told_ms = now_ms
            yield Notice(LASTS, entry.condition, entry.since_ms)
