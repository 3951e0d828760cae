"""A verdict: what the detector says of one key or prefix, in numbers; `engine.decisions.compose` puts it into words."""

from __future__ import annotations

import numpy as np

from engine.detector.constants import SCALES

THROTTLE, RELEASE = 1, 2

VERDICT = np.dtype(
    [
        ("kind", "i8"),
        ("event", "i8"),  # its number in the block
        ("key", "u8"),
        ("prefix", "i8"),  # length of the network if it is the key's prefix, 0 for the key's own
        ("within", "i8"),  # length of the throttled prefix that the sender may pass, else 0
        ("offset", "i8"),  # of the event that led to it
        ("issued_ms", "i8"),
        ("until_ms", "i8"),
        ("rate_per_h", "f8"),
        ("burst", "f8"),
        ("scales", "i8"),  # bit s: scale s was exceeded
        ("threshold", "f8"),  # T, as the site leans
        ("active_days", "i8"),
        ("first_seen_s", "i8"),
        ("counter", "f8", (SCALES,)),
        ("limit", "f8", (SCALES,)),
        ("memory", "f8", (SCALES,)),
        ("pool", "u8"),  # key of the pool whose alarm it is, 0 without one
        ("pool_keys", "f8"),
        ("pool_volume", "f8"),
        ("pool_usual", "f8"),
    ],
    align=True,
)
