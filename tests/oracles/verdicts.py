"""The verdicts of the oracles in plain fields; the compiled detector's are in a structured array."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A decision on `key`, caused by the event at `offset`. A release has only the first five fields and `prefix`."""

    kind: str  # "throttle" or "release"
    key: int
    issued_ms: int
    until_ms: int  # of a release: the end of the expired throttle
    offset: int
    rate_per_min: float = 0.0
    burst: float = 0.0
    reason: str = ""
    scales: tuple[str, ...] = ()  # exceeded
    counters: tuple[float, ...] = ()
    limits: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()  # baseline
    active_days: int = 0
    threshold: float = 0.0
    first_seen_ms: int = 0
    prefix: int = 0  # length of the network if it isn't the key's own
    within: int = 0  # length of the throttled network that the key may pass
    pool: int = 0  # key of the pool in alarm
    pool_evidence: tuple[float, float, float] = (0.0, 0.0, 0.0)  # its new senders, volume, usual volume
