"""What an edge under one configuration did to the recorded mail: by class of sender, by day, by network.

Mail that the MTA accepted counts as delayed when it was deferred; mail that it turned away as held. Retries (outcome
deferred) count nowhere: the message is counted where it got in. A recording doesn't say which accepted mail was an attack,
and one attack may be most of a week's messages; so budgets are shares of sender-days: of the days on which a sender had
mail accepted, those on which some of it was delayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.analysis.senders import CLASSES, Seen
from engine.detector.constants import DAY_MS
from topics.columns.scan import ACCEPTED, REJECTED, EventColumns
from topics.decisions import THROTTLE, Decision


class Spell(NamedTuple):
    """A network's throttle from its first decision to its end, ms since epoch, extensions included."""

    start_ms: int
    end_ms: int


class Counts(NamedTuple):
    """Messages: accepted ones, how many of them were delayed, refused ones, how many of them were held. Days of senders with
    accepted mail, and those on which some was delayed."""

    accepted: int
    delayed: int
    refused: int
    held: int
    sender_days: int
    sender_days_delayed: int

    @property
    def delayed_share(self) -> float:
        """Of the accepted mail; 0 without any."""
        return self.delayed / self.accepted if self.accepted else 0.0

    @property
    def days_share(self) -> float:
        """Sender-days delayed of all; 0 without any."""
        return self.sender_days_delayed / self.sender_days if self.sender_days else 0.0

    def as_json(self) -> dict[str, float]:
        """For programs."""
        shares = {"delayed_share": self.delayed_share, "sender_days_delayed_share": self.days_share}
        return self._asdict() | {name: round(share, 6) for name, share in shares.items()}


@dataclass(slots=True)
class Touched:
    """What a network met: messages delayed and held, its class when that began, the last day on which mail was delayed."""

    sender: str
    delayed: int = 0
    held: int = 0
    delayed_day: int = -1


@dataclass(slots=True)
class Ledger:
    """The books of one configuration. ``verdicts``: of decisions that hold."""

    verdicts: tuple[str, ...] = (THROTTLE,)
    decisions: int = 0
    spells: dict[str, list[Spell]] = field(default_factory=dict)
    touched: dict[int, Touched] = field(default_factory=dict)
    _days: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)

    def note(self, decisions: list[Decision]) -> None:
        """Count decisions, in the order of their issue."""
        for decision in decisions:
            if decision.verdict not in self.verdicts:
                self._cut_short(decision)
                continue
            self.decisions += 1
            spells = self.spells.setdefault(decision.network, [])
            if spells and decision.issued <= spells[-1].end_ms:
                spells[-1] = Spell(spells[-1].start_ms, max(decision.until, spells[-1].end_ms))
            else:
                spells.append(Spell(decision.issued, decision.until))

    def _cut_short(self, release: Decision) -> None:
        """End a network's spell at its release, if that comes before its time."""
        if spells := self.spells.get(release.network):
            spells[-1] = Spell(spells[-1].start_ms, min(spells[-1].end_ms, release.issued))

    def enter(self, events: EventColumns, deferred: npt.NDArray[np.int64], seen: Seen) -> None:
        """Count a block of events, what was deferred of each, and what is known of the senders."""
        days = events.ts_ms // DAY_MS
        accepted, refused = events.outcome == ACCEPTED, events.outcome == REJECTED
        figures = (
            accepted * events.messages,
            accepted * deferred,
            refused * events.messages,
            refused * deferred,
            seen.first,
            self._touch(events, days, deferred, seen),
        )
        for day in np.unique(days).tolist():
            today = days == day
            books = self._days.setdefault(day, np.zeros((len(CLASSES), len(figures)), np.int64))
            for column, figure in enumerate(figures):
                sums = np.bincount(seen.classes[today], figure[today], len(CLASSES))
                books[:, column] += sums.astype(np.int64)

    def _touch(
        self, events: EventColumns, days: npt.NDArray[np.int64], deferred: npt.NDArray[np.int64], seen: Seen
    ) -> npt.NDArray[np.bool_]:
        """Enter what was deferred under its network; which events are the first delayed one of their sender's day."""
        first = np.zeros(len(deferred), np.bool_)
        for i in np.flatnonzero(deferred).tolist():
            found = self.touched.setdefault(int(events.key[i]), Touched(CLASSES[seen.classes[i]]))
            if events.outcome[i] == ACCEPTED:
                found.delayed += int(deferred[i])
                first[i] = days[i] > found.delayed_day
                found.delayed_day = max(found.delayed_day, int(days[i]))
            elif events.outcome[i] == REJECTED:
                found.held += int(deferred[i])
        return first

    @property
    def days(self) -> list[int]:
        """The days with events, days since 1970."""
        return sorted(self._days)

    def counts(self, *classes: str, first_day: int = 0, last_day: int = 1 << 40) -> Counts:
        """The sums over some classes (all if none is named) and days, both ends included."""
        chosen = [CLASSES.index(name) for name in classes or CLASSES]
        total = np.zeros(len(Counts._fields), np.int64)
        for day, books in self._days.items():
            if first_day <= day <= last_day:
                total += books[chosen].sum(axis=0)
        return Counts._make(total.tolist())

    @property
    def throttled(self) -> int:
        """Spells of all networks."""
        return sum(map(len, self.spells.values()))
