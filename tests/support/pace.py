"""How slow this machine is now, measured once per session: time-outs scale with it.

A fixed loop takes `REFERENCE_S` on an idle core of the reference machine (AMD EPYC). Next to two busy loops on two cores it
takes about twice as long. A time-out that only guards against a hang costs nothing when it is long.
"""

from __future__ import annotations

import os
import time

ITERATIONS = 3_000_000
REFERENCE_S = 0.12
MOST = 10.0
VARIABLE = "PYTEST_TIDEGATE_PACE"  # workers of pytest-xdist take the first process's measurement


def measure() -> float:
    """Return how many times longer than on the reference machine the loop takes here, from 1 to `MOST`."""
    started_s = time.perf_counter()
    for _ in range(ITERATIONS):
        pass
    return min(MOST, max(1.0, (time.perf_counter() - started_s) / REFERENCE_S))


def _session_pace() -> float:
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = f"{measure():.2f}"
    return float(os.environ[VARIABLE])


PACE = _session_pace()


def scaled(seconds: float) -> float:
    """Return a time-out for this machine: twice `seconds` times its pace."""
    return 2 * seconds * PACE
