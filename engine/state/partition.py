"""One partition of the engine: its state, and blocks of events through it. Pure: no Kafka, no clock, no I/O.

`replay` and the worker both drive this class, so the same events give the same decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.cohort import open_cohort
from engine.detector.constants import RELAY
from engine.detector.detect import RUN, detect
from engine.detector.eviction import sweep
from engine.detector.hash_table import SEED
from engine.detector.layout import State, empty_state
from engine.detector.pools import open_pools
from engine.detector.throttle import Policy
from engine.detector.verdict import VERDICT
from topics.columns.keys import SCRATCH
from topics.columns.scan import EventColumns

VERDICT_ROOM = 1024


class Partition:
    """``capacity``: keys, a power of two; ``policy`` names the partition's number and the partition count."""

    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.state: State = empty_state(capacity)
        open_cohort(self.state.site)
        open_pools(self.state.site)
        self._room = (
            np.zeros(VERDICT_ROOM, VERDICT),
            np.zeros(RUN, np.int64),
            np.zeros(RUN, np.uint64),
            np.zeros((RUN, RELAY), np.int64),
            np.zeros(SCRATCH, np.uint8),
            SEED,
        )

    @property
    def number(self) -> int:
        """Which partition of the source topic this is."""
        return self.policy.partition

    @property
    def applied_offset(self) -> int:
        """The last source offset that the state has applied, -1 for none."""
        return int(self.state.site["applied_offset"][0])

    @property
    def decides(self) -> bool:
        """Whether verdicts are given, or only counted as `shadows`: while it learns, or is told to watch."""
        site = self.state.site[0]
        return bool(self.policy.decides and site["first_ms"] >= 0 and site["day"] >= site["decides_from"])

    @property
    def tripped_ms(self) -> int | None:
        """Event time at which the fleet guard has tripped, None while it is armed."""
        site = self.state.site[0]
        return int(site["tripped_ms"]) if site["rearm_ms"] else None

    @property
    def trips(self) -> int:
        """How often the fleet guard has tripped so far."""
        return int(self.state.site["trips"][0])

    @property
    def withdrawn(self) -> int:
        """Decisions that it has taken back."""
        return int(self.state.site["withdrawn"][0])

    @property
    def threshold(self) -> float:
        """T in force: the knob's, as the site leans."""
        return float(self.policy.threshold * self.state.site["lean"][0])

    @property
    def keys(self) -> int:
        """Rows in use."""
        return int(self.state.cursor["rows"][0])

    @property
    def dirty(self) -> int:
        """Rows changed since the last checkpoint."""
        return int(self.state.cursor["dirty"][0])

    def apply(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[Any]:
        """Apply events ``first`` to ``last`` in order; the verdicts (VERDICT[]) that they led to, in order."""
        found: list[npt.NDArray[Any]] = []
        while first < last:
            first, n, full = detect(columns, (first, last), self.state, self.policy, self._room)
            if n:
                found.append(self._room[0][:n].copy())
            if full:
                sweep(self.state)
        return np.concatenate(found) if found else self._room[0][:0]

    def pass_over(self, offset: int, poison: int) -> None:
        """Take all offsets up to ``offset`` as applied, ``poison`` of them as records that are no events."""
        site = self.state.site[0]
        site["applied_offset"] = max(int(site["applied_offset"]), offset)
        site["poison"] += poison
