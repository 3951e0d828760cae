"""Decide which conditions are reported now: once after `hold_ms`, again every `repeat_ms`, and once when over. Pure.

A condition must be true for the hold time before it is reported, and false as long before it is reported over, so a figure
near its limit causes no noise. The records of reported conditions are an argument: they outlive a worker and follow a
partition to its next owner. A worker reports only conditions that it can detect. At most `MAX_REPORTED` conditions are
reported at a time; later ones wait until others are over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from engine.alerts.conditions import Condition

BEGUN, LASTS, OVER = "begun", "lasts", "over"
MAX_REPORTED = 1_000
Covers = Callable[[str, str], bool]  # by kind and name: True if the condition would be detected here


class AlertRecord(NamedTuple):
    """A condition that was reported and is not over."""

    kind: str
    over_text: str
    since_ms: int  # first detected
    reported_ms: int  # last reported


class Notice(NamedTuple):
    """A report about a condition."""

    state: str  # `BEGUN`, `LASTS` or `OVER`
    condition: Condition
    since_ms: int  # first detected
    at_ms: int  # when this report was made

    @property
    def record(self) -> AlertRecord | None:
        """The record to keep once this notice is delivered; None if the condition is over."""
        condition = self.condition
        if self.state == OVER:
            return None
        return AlertRecord(condition.kind, condition.over_text, self.since_ms, self.at_ms)


class AlertState:
    """When conditions were detected, as far as it isn't in a record yet."""

    def __init__(self, hold_ms: int, repeat_ms: int) -> None:
        self._hold_ms, self._repeat_ms = hold_ms, repeat_ms
        self._since: dict[str, int] = {}  # first detection of conditions without a record
        self._seen: dict[str, int] = {}  # last detection, or else the first time that one was missed

    def evaluate(
        self, conditions: Iterable[Condition], records: Mapping[str, AlertRecord], covers: Covers, now_ms: int
    ) -> list[Notice]:
        """Return the notices that are due, given all conditions that are true at ``now_ms``."""
        present = {condition.name: condition for condition in conditions}
        absent = {name: record for name, record in records.items() if name not in present and covers(record.kind, name)}
        self._since = {name: self._since.get(name, now_ms) for name in present if name not in records}
        self._seen = {name: self._seen.get(name, now_ms) for name in absent} | dict.fromkeys(present, now_ms)
        return [*self._present(present, records, now_ms), *self._over(absent, now_ms)]

    def _present(
        self, present: Mapping[str, Condition], records: Mapping[str, AlertRecord], now_ms: int
    ) -> Iterator[Notice]:
        room = MAX_REPORTED - len(records)
        for name, condition in present.items():
            if name in records:
                if now_ms - records[name].reported_ms >= self._repeat_ms:
                    yield Notice(LASTS, condition, records[name].since_ms, now_ms)
            elif room > 0 and now_ms - self._since[name] >= self._hold_ms:
                room -= 1
                yield Notice(BEGUN, condition, self._since[name], now_ms)

    def _over(self, absent: Mapping[str, AlertRecord], now_ms: int) -> Iterator[Notice]:
        for name, record in absent.items():
            if now_ms - self._seen[name] >= self._hold_ms:
                condition = Condition(name, record.kind, "", record.over_text)
                yield Notice(OVER, condition, record.since_ms, now_ms)
