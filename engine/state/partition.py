"""One partition of the engine: its state, and blocks of events applied to it. Pure: no Kafka, no clock, no I/O.

`replay` and the worker both drive this class, so the same events give the same decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.detector.cohort import open_cohort
from engine.detector.detect import detect, new_scratch
from engine.detector.eviction import sweep
from engine.detector.layout import State, empty_state
from engine.detector.pools import open_site_pools
from engine.detector.throttle import Policy
from topics.columns.scan import EventColumns

VERDICT_ROOM = 1024


class Partition:
    """One partition's state with the policy that applies to it.

    A table of N senders takes at most `engine.detector.layout.table_bytes(N)`; a full table evicts rows.
    """

    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.state: State = empty_state(capacity)  # capacity: senders, a power of two
        open_cohort(self.state.site)
        open_site_pools(self.state.site)
        self._scratch = new_scratch(VERDICT_ROOM)

    def reconfigure(self, policy: Policy) -> None:
        """Use other options for later events; the state stays."""
        self.policy = policy

    @property
    def number(self) -> int:
        """Number of this partition of the source topic."""
        return self.policy.partition

    @property
    def applied_offset(self) -> int:
        """Last source offset that the state has applied, -1 for none."""
        return int(self.state.site["applied_offset"][0])

    @property
    def decides(self) -> bool:
        """True if verdicts are published; False if they are only counted as `suppressed`: it learns or only watches."""
        site = self.state.site[0]
        return bool(self.policy.decides and site["first_ms"] >= 0 and site["day"] >= site["decides_from"])

    @property
    def breaker_tripped_ms(self) -> int | None:
        """Event time of the circuit breaker's last trip while it is open, None while it is closed."""
        site = self.state.site[0]
        return int(site["breaker_tripped_ms"]) if site["breaker_rearm_ms"] else None

    @property
    def breaker_trips(self) -> int:
        """Trips of the circuit breaker so far."""
        return int(self.state.site["breaker_trips"][0])

    @property
    def breaker_withdrawn(self) -> int:
        """Throttles that the circuit breaker has withdrawn so far."""
        return int(self.state.site["breaker_withdrawn"][0])

    @property
    def threshold(self) -> float:
        """T in use: the policy's, scaled by the site."""
        return float(self.policy.threshold * self.state.site["threshold_scale"][0])

    @property
    def keys(self) -> int:
        """Rows in use."""
        return int(self.state.cursor["rows"][0])

    @property
    def dirty(self) -> int:
        """Rows changed since the last checkpoint."""
        return int(self.state.cursor["dirty"][0])

    def apply(self, columns: EventColumns, first: int, last: int) -> npt.NDArray[Any]:
        """Apply events `first` to `last` in order. Return their verdicts (VERDICT[]) in order."""
        verdicts, chunks = self._scratch.verdicts, list[npt.NDArray[Any]]()
        while first < last:
            first, n, table_full = detect(columns, first, last, self.state, self.policy, self._scratch)
            if n:
                chunks.append(verdicts[:n].copy())
            if table_full:
                sweep(self.state)
        return np.concatenate(chunks) if chunks else verdicts[:0]

    def skip_to(self, offset: int, poison: int) -> None:
        """Count all offsets up to `offset` as applied, and `poison` of them as records that are no events."""
        site = self.state.site[0]
        site["applied_offset"] = max(int(site["applied_offset"]), offset)
        site["poison"] += poison
