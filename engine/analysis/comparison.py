"""Compare two candidates on the same recorded events: throttles gained and lost, and mail delayed.

A throttle period is lost if no period of the new candidate overlaps it, and gained the other way round. The events stay as
recorded: the reaction of a sender to a deferral isn't known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.analysis.collateral import Collateral, DeferredMail, MailCounts, ThrottlePeriod
from engine.analysis.senders import CLASSES
from topics.networks import network_text

MOVERS = 10
NOTHING_DEFERRED = DeferredMail("")


class NetworkDifference(NamedTuple):
    """The deferred messages of a network under both candidates: delayed (accepted mail) and caught (refused mail)."""

    network: str
    sender: str
    old_delayed: int
    new_delayed: int
    old_caught: int
    new_caught: int

    @property
    def messages(self) -> int:
        """Return the number of messages by which the candidates differ."""
        return abs(self.new_delayed - self.old_delayed) + abs(self.new_caught - self.old_caught)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two candidates. Pairs are (old, new)."""

    decisions: tuple[int, int]
    gained: int  # throttle periods
    lost: int
    kept: int
    by_class: dict[str, tuple[MailCounts, MailCounts]]
    all_senders: tuple[MailCounts, MailCounts]
    movers: list[NetworkDifference]  # the largest differences first

    def as_json(self) -> dict[str, Any]:
        """Return the comparison for programs."""
        return {
            "decisions": dict(zip(("old", "new"), self.decisions, strict=True)),
            "throttle_periods": {"gained": self.gained, "lost": self.lost, "kept": self.kept},
            "classes": {name: _pair(pair) for name, pair in self.by_class.items()},
            "all": _pair(self.all_senders),
            "movers": [mover._asdict() for mover in self.movers],
        }


def _pair(pair: tuple[MailCounts, MailCounts]) -> dict[str, Any]:
    return {name: counts.as_json() for name, counts in zip(("old", "new"), pair, strict=True)}


def compare(old: Collateral, new: Collateral) -> Comparison:
    """Return the differences of two candidates' collateral over the same events."""
    return Comparison(
        decisions=(old.decisions, new.decisions),
        gained=_without_overlap(new, old),
        lost=_without_overlap(old, new),
        kept=new.throttles - _without_overlap(new, old),
        by_class={name: (old.counts(name), new.counts(name)) for name in CLASSES},
        all_senders=(old.counts(), new.counts()),
        movers=_movers(old, new),
    )


def _without_overlap(ours: Collateral, theirs: Collateral) -> int:
    """Return the number of our throttle periods that none of theirs on the same network overlaps."""
    return sum(
        not any(_overlap(period, other) for other in theirs.throttle_periods.get(network, ()))
        for network, periods in ours.throttle_periods.items()
        for period in periods
    )


def _overlap(a: ThrottlePeriod, b: ThrottlePeriod) -> bool:
    return a.start_ms <= b.end_ms and b.start_ms <= a.end_ms


def _movers(old: Collateral, new: Collateral) -> list[NetworkDifference]:
    """Return the networks with the largest differences, the largest first."""
    differences: Iterable[NetworkDifference] = (
        _difference(key, old.deferred_mail.get(key, NOTHING_DEFERRED), new.deferred_mail.get(key, NOTHING_DEFERRED))
        for key in old.deferred_mail.keys() | new.deferred_mail.keys()
    )
    ordered = sorted(differences, key=lambda difference: (-difference.messages, difference.network))
    return [difference for difference in ordered[:MOVERS] if difference.messages]


def _difference(key: int, old: DeferredMail, new: DeferredMail) -> NetworkDifference:
    sender = old.sender or new.sender
    return NetworkDifference(network_text(key), sender, old.delayed, new.delayed, old.caught, new.caught)
