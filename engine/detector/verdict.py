"""A verdict: the detector's throttle or release of one key or prefix, in numbers. `engine.decisions.compose` makes its text."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.detector.constants import SCALES
from topics.columns.jit import inline

THROTTLE, RELEASE = 1, 2

VERDICT = np.dtype(
    [
        ("kind", "i8"),
        ("event", "i8"),  # number in the block of the event that led to it
        ("key", "u8"),
        ("prefix", "i8"),  # length of the network if it is the key's prefix, 0 for the key's own network
        ("within", "i8"),  # length of the throttled prefix that the sender may pass, else 0
        ("offset", "i8"),  # of the event that led to it
        ("issued_ms", "i8"),
        ("until_ms", "i8"),
        ("rate_per_h", "f8"),
        ("burst", "f8"),
        ("scales", "i8"),  # bit s is set if scale s was exceeded
        ("threshold", "f8"),  # T, scaled by the site
        ("active_days", "i8"),
        ("first_seen_s", "i8"),
        ("counter", "f8", (SCALES,)),
        ("limit", "f8", (SCALES,)),
        ("memory", "f8", (SCALES,)),
        ("pool", "u8"),  # key of the pool in alarm, 0 without one
        ("pool_keys", "f8"),
        ("pool_volume", "f8"),
        ("pool_usual", "f8"),
    ],
    align=True,
)


@inline
def write_release(verdict: Any, key: Any, prefix: int, until_ms: int) -> None:
    """Make a verdict the release of a key, or of its prefix of length `prefix`, whose throttle ends at `until_ms`."""
    verdict.kind, verdict.key, verdict.prefix, verdict.until_ms = RELEASE, key, prefix, until_ms


@inline
def write_source(verdict: Any, event: int, offset: int, issued_ms: int) -> None:
    """Name the event that led to a verdict, by its number in the block and its offset, and the verdict's time."""
    verdict.event, verdict.offset, verdict.issued_ms = event, offset, issued_ms
