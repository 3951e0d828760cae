"""Who has been told what: a condition is told once it has lasted, again while it lasts on, and once it is over. Pure.

Nothing is told of what comes and goes within the hold, so that a figure around its limit makes no noise: what was told stays
told until it has been away for as long. What was told comes from outside, so that it outlives a worker and goes with a
partition to another one; only of what it can see does a worker say anything. At most `MOST` conditions are told of at a time;
beyond, new ones wait until others are over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from engine.alerts.conditions import Condition

BEGUN, LASTS, OVER = "begun", "lasts", "over"
MOST = 1_000
Covers = Callable[[str, str], bool]


class Told(NamedTuple):
    """What an operator knows of. ``kind``, ``over``: of the condition; ``since_ms``: when it was first seen; ``told_ms``: when
    it was told last."""

    kind: str
    over: str
    since_ms: int
    told_ms: int


class Notice(NamedTuple):
    """``state``: begun, lasts or over; ``since_ms``: when the condition was first seen; ``at_ms``: when this was made."""

    state: str
    condition: Condition
    since_ms: int
    at_ms: int

    @property
    def told(self) -> Told | None:
        """What an operator knows of it then; None once it is over."""
        condition = self.condition
        return None if self.state == OVER else Told(condition.kind, condition.over, self.since_ms, self.at_ms)


class Ledger:
    """``hold_ms``: how long a condition must last, or be away; ``repeat_ms``: how often it is told while it lasts."""

    def __init__(self, hold_ms: int, repeat_ms: int) -> None:
        self._hold_ms, self._repeat_ms = hold_ms, repeat_ms
        self._since: dict[str, int] = {}  # when that began of which nobody was told
        self._seen: dict[str, int] = {}  # when a condition was seen last, or first looked for in vain

    def turn(self, found: Iterable[Condition], told: Mapping[str, Told], covers: Covers, now_ms: int) -> list[Notice]:
        """What is to be told, given all conditions that hold at ``now_ms`` and what was ``told``. ``covers``: whether a
        condition of a kind and name would be among those found if it held."""
        here = {condition.name: condition for condition in found}
        away = {name: one for name, one in told.items() if name not in here and covers(one.kind, name)}
        self._since = {name: self._since.get(name, now_ms) for name in here if name not in told}
        self._seen = {name: self._seen.get(name, now_ms) for name in away} | dict.fromkeys(here, now_ms)
        return [*self._holding(here, told, now_ms), *self._over(away, now_ms)]

    def _holding(self, here: Mapping[str, Condition], told: Mapping[str, Told], now_ms: int) -> Iterator[Notice]:
        room = MOST - len(told)
        for name, condition in here.items():
            if name in told:
                if now_ms - told[name].told_ms >= self._repeat_ms:
                    yield Notice(LASTS, condition, told[name].since_ms, now_ms)
            elif room > 0 and now_ms - self._since[name] >= self._hold_ms:
                room -= 1
                yield Notice(BEGUN, condition, self._since[name], now_ms)

    def _over(self, away: Mapping[str, Told], now_ms: int) -> Iterator[Notice]:
        for name, one in away.items():
            if now_ms - self._seen[name] >= self._hold_ms:
                yield Notice(OVER, Condition(name, one.kind, "", one.over), one.since_ms, now_ms)
