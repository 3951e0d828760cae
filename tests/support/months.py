"""A small simulated month as a file of events, for tests of commands that read files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.demo.simulate import MTA_NAMES, simulate
from topics.columns.write import Drafts, texts, write_lines

END_MS = 1_764_547_200_000


def write_month(path: Path, share: float = 0.01) -> Path:
    """Write the month to `path` without its busiest relay, which sends most of it.

    It has six million events times the `share`; attacks are on the last day.
    """
    month = Drafts(*simulate(5, END_MS, share)[:6])
    senders, counts = np.unique(month.high, return_counts=True)
    drafts = Drafts._make(column[month.high != senders[counts.argmax()]] for column in month)
    out = np.empty(200 * len(drafts.ts_ms), np.uint8)
    done, written = write_lines(drafts, 0, texts(list(MTA_NAMES)), out)
    assert done == len(drafts.ts_ms)
    path.write_bytes(out[:written].tobytes())
    return path
