"""Account for the mail that a simulated edge defers: by class of sender, by day, by network.

Mail that the MTA accepted counts as delayed if the edge deferred it; mail that the MTA refused counts as caught. Retries
(outcome `deferred`) aren't counted: the message is counted where it was accepted.

A recording doesn't tell which accepted mail was an attack, and one attack may be most of a week's messages. So budgets are
shares of sender-days: a sender-day is a day on which a sender had mail accepted; it is delayed if some of that mail was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.analysis.senders import CLASSES, BlockSenders
from engine.detector.constants import DAY_MS
from topics.columns.scan import ACCEPTED, REJECTED, EventColumns
from topics.decisions import THROTTLE, Decision


class ThrottlePeriod(NamedTuple):
    """A network's throttle from its first decision to its end with all extensions, ms since epoch."""

    start_ms: int
    end_ms: int


class MailCounts(NamedTuple):
    """Messages and sender-days of a group of senders."""

    accepted: int
    delayed: int  # of the accepted
    refused: int
    caught: int  # of the refused
    sender_days: int
    sender_days_delayed: int

    @property
    def delayed_share(self) -> float:
        """Return the share of accepted mail that was delayed, 0 without any."""
        return self.delayed / self.accepted if self.accepted else 0.0

    @property
    def days_share(self) -> float:
        """Return the share of sender-days that were delayed, 0 without any."""
        return self.sender_days_delayed / self.sender_days if self.sender_days else 0.0

    def as_json(self) -> dict[str, float]:
        """Return the counts and shares for programs."""
        shares = {"delayed_share": self.delayed_share, "sender_days_delayed_share": self.days_share}
        return self._asdict() | {name: round(share, 6) for name, share in shares.items()}


@dataclass(slots=True)
class DeferredMail:
    """Messages of one network that the edge deferred."""

    sender: str  # its class at the first of them
    delayed: int = 0
    caught: int = 0
    delayed_day: int = -1  # the last day with delayed mail, days since 1970


@dataclass(slots=True)
class Collateral:
    """The account of one candidate."""

    verdicts: tuple[str, ...] = (THROTTLE,)  # that throttle; any other ends its network's period
    decisions: int = 0
    throttle_periods: dict[str, list[ThrottlePeriod]] = field(default_factory=dict)  # by network
    deferred_mail: dict[int, DeferredMail] = field(default_factory=dict)  # by key
    _days: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)  # classes x fields of MailCounts

    def add_decisions(self, decisions: list[Decision]) -> None:
        """Count decisions, in the order of their issue."""
        for decision in decisions:
            if decision.verdict not in self.verdicts:
                self._end_early(decision)
                continue
            self.decisions += 1
            periods = self.throttle_periods.setdefault(decision.network, [])
            if periods and decision.issued <= periods[-1].end_ms:
                periods[-1] = ThrottlePeriod(periods[-1].start_ms, max(decision.until, periods[-1].end_ms))
            else:
                periods.append(ThrottlePeriod(decision.issued, decision.until))

    def _end_early(self, release: Decision) -> None:
        """End a network's throttle period at its release, if that is before its end."""
        if periods := self.throttle_periods.get(release.network):
            periods[-1] = ThrottlePeriod(periods[-1].start_ms, min(periods[-1].end_ms, release.issued))

    def add_events(self, events: EventColumns, deferred: npt.NDArray[np.int64], senders: BlockSenders) -> None:
        """Count a block of events. `deferred`: messages of each that the edge deferred."""
        days = events.ts_ms // DAY_MS
        accepted, refused = events.outcome == ACCEPTED, events.outcome == REJECTED
        figures = (
            accepted * events.messages,
            accepted * deferred,
            refused * events.messages,
            refused * deferred,
            senders.is_first_of_day,
            self._add_deferred(events, days, deferred, senders),
        )
        for day in np.unique(days).tolist():
            is_today = days == day
            sums = self._days.setdefault(day, np.zeros((len(CLASSES), len(figures)), np.int64))
            for column, figure in enumerate(figures):
                by_class = np.bincount(senders.classes[is_today], figure[is_today], len(CLASSES))
                sums[:, column] += by_class.astype(np.int64)

    def _add_deferred(
        self, events: EventColumns, days: npt.NDArray[np.int64], deferred: npt.NDArray[np.int64], senders: BlockSenders
    ) -> npt.NDArray[np.bool_]:
        """Count deferred mail by network; return which events are the first delayed one of a sender-day."""
        is_first = np.zeros(len(deferred), np.bool_)
        for i in np.flatnonzero(deferred).tolist():
            mail = self.deferred_mail.setdefault(int(events.key[i]), DeferredMail(CLASSES[senders.classes[i]]))
            if events.outcome[i] == ACCEPTED:
                mail.delayed += int(deferred[i])
                is_first[i] = days[i] > mail.delayed_day
                mail.delayed_day = max(mail.delayed_day, int(days[i]))
            elif events.outcome[i] == REJECTED:
                mail.caught += int(deferred[i])
        return is_first

    @property
    def days(self) -> list[int]:
        """Return the days with events, in days since 1970."""
        return sorted(self._days)

    def counts(self, *classes: str, first_day: int = 0, last_day: int = 1 << 40) -> MailCounts:
        """Return the sums over some classes (default: all) and days, both ends included."""
        chosen = [CLASSES.index(name) for name in classes or CLASSES]
        total = np.zeros(len(MailCounts._fields), np.int64)
        for day, sums in self._days.items():
            if first_day <= day <= last_day:
                total += sums[chosen].sum(axis=0)
        return MailCounts._make(total.tolist())

    @property
    def throttles(self) -> int:
        """Return the number of throttle periods of all networks."""
        return sum(map(len, self.throttle_periods.values()))
