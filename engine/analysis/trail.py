"""A partition computed again beside the checkpoints that a worker wrote of it: from which one on they are apart.

What a sender's row counts rests on its own events alone, whatever the configuration: that is what is compared, octet for octet;
of the site, all that rests on events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.analysis.pinning import Change, single_change
from engine.detector.constants import SCALE_MS, SCALE_NAMES
from engine.detector.hash_table import NO_ROW
from engine.detector.layout import SITE
from engine.state.history import Checkpoint
from engine.state.inspect import row_of
from engine.state.partition import Partition
from topics.keys import network_text

COUNTED = ("last_ms", "first_seen_s", "counter", "accepted", "rejected")
NOT_OF_EVENTS = ("applied_offset", "poison", "miskeyed")
NAMED = 5


@dataclass(frozen=True, slots=True)
class Apart:
    """Alike as of offset ``after`` (-1: never seen so), no more as of ``offset``. Now more than then: ``events`` of the
    partition, ``accepted`` and ``rejected`` messages of the sender, ``change`` if a single one explains its counts;
    ``networks``: of other senders whose counts differ, the first few."""

    after: int
    offset: int
    events: int
    accepted: int = 0
    rejected: int = 0
    change: Change | None = None
    networks: tuple[str, ...] = ()


class Trail:
    """Compares with checkpoint after checkpoint. ``partition``: that which is computed again; ``key``: the sender's.

    ``compared``: checkpoints; ``upto``: the offset of the last one, -1 before; ``own``, ``rest``: since when the sender's row
    is another, and the site, None while they are alike."""

    def __init__(self, partition: Partition, key: int) -> None:
        self.compared, self.upto = 0, -1
        self.own: Apart | None = None
        self.rest: Apart | None = None
        self._partition, self._key = partition, key
        self._row: Any = None

    @property
    def alike(self) -> bool:
        """Whether all that was compared is what the events lead to."""
        return self.own is None and self.rest is None

    def compare(self, checkpoint: Checkpoint) -> None:
        """The partition stands at the checkpoint's offset."""
        mine = checkpoint.rows[checkpoint.rows["key"] == np.uint64(self._key)]
        self._row = mine[-1] if len(mine) else self._row
        site = self._partition.state.site[0]
        events = int(site["events"]) - int(checkpoint.site["events"])
        if self.own is None and self._row is not None:
            self.own = self._own(checkpoint.offset, events)
        if self.rest is None and not _site_alike(site, checkpoint.site):
            self.rest = Apart(self.upto, checkpoint.offset, events, networks=self._others(checkpoint))
        self.compared, self.upto = self.compared + 1, checkpoint.offset

    def _own(self, offset: int, events: int) -> Apart | None:
        number = row_of(self._partition, self._key)
        if number == NO_ROW and self._partition.state.site["evicted"][0]:
            return None
        now, then = np.zeros_like(self._row) if number == NO_ROW else self._partition.state.rows[number], self._row
        if _counted_alike(now, then):
            return None
        accepted, rejected = (int(now[name]) - int(then[name]) for name in ("accepted", "rejected"))
        at_ms = max(int(now["last_ms"]), int(then["last_ms"]))
        change = single_change(_counts(then, at_ms), _counts(now, at_ms), at_ms, step=0.0)
        return Apart(self.upto, offset, events, accepted, rejected, change)

    def _others(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        rows = self._partition.state.rows[: self._partition.keys]
        _, now, then = np.intersect1d(rows["key"], checkpoint.rows["key"], return_indices=True)
        apart = np.zeros(len(now), np.bool_)
        for name in COUNTED:
            differs = rows[name][now] != checkpoint.rows[name][then]
            apart |= differs if differs.ndim == 1 else differs.any(axis=1)
        gone = np.setdiff1d(checkpoint.rows["key"], rows["key"])
        keys = [*rows["key"][now][apart].tolist(), *gone.tolist()]
        return tuple(network_text(key) for key in keys if key != self._key)[:NAMED]


def _site_alike(now: Any, then: Any) -> bool:
    names = (name for name in SITE.names or () if name not in NOT_OF_EVENTS)
    return all(np.array_equal(now[name], then[name]) for name in names)


def _counted_alike(now: Any, then: Any) -> bool:
    return all(np.array_equal(now[name], then[name]) for name in COUNTED)


def _counts(row: Any, at_ms: int) -> dict[str, float]:
    """A row's counters faded to a later moment."""
    elapsed_ms = at_ms - int(row["last_ms"])
    return {
        name: float(count) * float(np.exp(-elapsed_ms / tau_ms))
        for name, count, tau_ms in zip(SCALE_NAMES, row["counter"], SCALE_MS, strict=True)
    }
