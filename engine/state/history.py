"""The checkpoints in a changelog, one after the other: of which events each is, and the rows that it has. Pure: bytes in.

Compaction leaves nothing of what is superseded, in the order of the log: so a row that is found is its sender's as of the next
site record behind it, and as of each later one until another row of it comes. Nothing is known of the time before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.detector.layout import ROW, STATE_VERSION
from engine.state.records import Checked, Fetch, StateRecords
from topics.changelog import ROW_KIND, SITE_KIND


class Checkpoint(NamedTuple):
    """``site``: SITE; ``rows``: ROW[], those that changed since the checkpoint before."""

    site: Any
    rows: npt.NDArray[Any]

    @property
    def offset(self) -> int:
        """The last source offset that it has applied."""
        return int(self.site["applied_offset"])


class Checkpoints:
    """Reads a changelog from its beginning. Those of an earlier state version are passed over."""

    def __init__(self) -> None:
        self._records = StateRecords()
        self._rows: list[npt.NDArray[Any]] = []

    def add(self, fetch: Fetch) -> Iterator[Checkpoint]:
        """The checkpoints that end in a fetch; `topics.changelog.BadState` if a record can't be read."""
        checked = self._records.check(fetch)
        first = 0
        for end in np.flatnonzero(checked.kinds == SITE_KIND).tolist():
            self._rows.append(self._some(checked, first, end, ROW_KIND))
            rows, self._rows, first = np.concatenate(self._rows), [], end + 1
            for site in self._some(checked, end, first, SITE_KIND):
                yield Checkpoint(site, rows)
        self._rows.append(self._some(checked, first, len(checked.keys), ROW_KIND))

    def _some(self, checked: Checked, first: int, last: int, kind: int) -> npt.NDArray[Any]:
        ours = (checked.kinds[first:last] == kind) & (checked.versions[first:last] == STATE_VERSION)
        chosen = first + np.flatnonzero(ours)
        if not len(chosen):
            return np.zeros(0, ROW)
        return self._records.read(checked.fetch.some(chosen), kind, STATE_VERSION)
