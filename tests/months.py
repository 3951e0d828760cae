"""A small simulated month as a file of events, for tests of commands that read one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.demo.simulate import MTA_NAMES, simulate
from topics.columns.write import Drafts, texts, write_lines

END_MS = 1_764_547_200_000


def write_month(path: Path, seed: int = 5, size: float = 0.02) -> Path:
    """Write the month; ``size`` 0.02 is some tens of thousands of events, attacks on its last day among them."""
    month = simulate(seed, END_MS, size)
    out = np.empty(200 * len(month.ts_ms), np.uint8)
    done, written = write_lines(Drafts(*month[:6]), 0, texts(list(MTA_NAMES)), out)
    assert done == len(month.ts_ms)
    path.write_bytes(out[:written].tobytes())
    return path
