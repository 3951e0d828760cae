"""Two configurations on the same recorded events: what the new one gains, loses and costs.

A spell (a network's throttle from its first decision to its end) is lost if no spell of the new configuration overlaps it,
gained the other way round. The events stay what they were recorded as: what a sender would have done after a deferral is
not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.analysis.collateral import Counts, Ledger, Spell, Touched
from engine.analysis.senders import CLASSES
from topics.keys import network_text

MOVERS = 10
UNTOUCHED = Touched("")


class Mover(NamedTuple):
    """A network whose mail fares differently: messages delayed (accepted mail) and held (refused mail)."""

    network: str
    sender: str
    old_delayed: int
    new_delayed: int
    old_held: int
    new_held: int

    @property
    def moved(self) -> int:
        """Messages by which the two differ."""
        return abs(self.new_delayed - self.old_delayed) + abs(self.new_held - self.old_held)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer. ``gained``, ``lost``, ``kept``: spells; ``by_class``: (old, new) counts of each class of sender."""

    decisions: tuple[int, int]
    gained: int
    lost: int
    kept: int
    by_class: dict[str, tuple[Counts, Counts]]
    everybody: tuple[Counts, Counts]
    movers: list[Mover]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "decisions": dict(zip(("old", "new"), self.decisions, strict=True)),
            "spells": {"gained": self.gained, "lost": self.lost, "kept": self.kept},
            "classes": {name: _pair(pair) for name, pair in self.by_class.items()},
            "everybody": _pair(self.everybody),
            "movers": [mover._asdict() for mover in self.movers],
        }


def _pair(pair: tuple[Counts, Counts]) -> dict[str, Any]:
    return {name: counts.as_json() for name, counts in zip(("old", "new"), pair, strict=True)}


def compare(old: Ledger, new: Ledger) -> Comparison:
    """What the books of two configurations, or of decisions with and without a shadow, over the same events differ in."""
    return Comparison(
        decisions=(old.decisions, new.decisions),
        gained=_alone(new, old),
        lost=_alone(old, new),
        kept=new.throttled - _alone(new, old),
        by_class={name: (old.counts(name), new.counts(name)) for name in CLASSES},
        everybody=(old.counts(), new.counts()),
        movers=_movers(old, new),
    )


def _alone(one: Ledger, other: Ledger) -> int:
    """Spells of one ledger that nothing in the other overlaps."""
    return sum(
        not any(_overlap(spell, theirs) for theirs in other.spells.get(network, ()))
        for network, spells in one.spells.items()
        for spell in spells
    )


def _overlap(one: Spell, other: Spell) -> bool:
    return one.start_ms <= other.end_ms and other.start_ms <= one.end_ms


def _movers(old: Ledger, new: Ledger) -> list[Mover]:
    """Those who differ most, the most first."""
    found: Iterable[Mover] = (
        _mover(key, old.touched.get(key, UNTOUCHED), new.touched.get(key, UNTOUCHED))
        for key in old.touched.keys() | new.touched.keys()
    )
    ordered = sorted(found, key=lambda mover: (-mover.moved, mover.network))
    return [mover for mover in ordered[:MOVERS] if mover.moved]


def _mover(key: int, before: Touched, after: Touched) -> Mover:
    sender = before.sender or after.sender
    return Mover(network_text(key), sender, before.delayed, after.delayed, before.held, after.held)
