"""What the oracles say of an event: decisions in plain fields, as the compiled detector's are in a structured array."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A decision: ``kind`` "throttle" or "release" of ``key``, caused by the event at ``offset``.

    A release keeps the ``until_ms`` that lapsed; its other fields are empty or 0. In a throttle ``scales`` are the exceeded
    ones, ``counters`` and ``limits`` the two sides of the comparison, ``peaks`` the remembered peaks (memory); ``prefix`` is
    the length of the network if it isn't the key's own, ``within`` that of the throttled one which the key may pass; ``pool``
    is the key of the pool in alarm, ``crowd`` its new keys, its volume and what is usual."""

    kind: str
    key: int
    issued_ms: int
    until_ms: int
    offset: int
    rate_per_min: float = 0.0
    burst: float = 0.0
    reason: str = ""
    scales: tuple[str, ...] = ()
    counters: tuple[float, ...] = ()
    limits: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()
    active_days: int = 0
    threshold: float = 0.0
    first_seen_ms: int = 0
    prefix: int = 0
    within: int = 0
    pool: int = 0
    crowd: tuple[float, float, float] = (0.0, 0.0, 0.0)
