"""An edge in simulation: the token buckets of the decisions in force, and what they let pass.

A decision covers its network from its time of issue (plus ``delay_ms``, what it takes to get there) until its end. A fresh
bucket is full; one that replaces a bucket in force keeps the tokens left, so a repeated decision refills nothing. A sender
whose mail is deferred does here what it did in the recording: whether it comes back is not simulated
(`benchmarks/closed_loop.py` does that). Cost: an event of a network that was never throttled costs no Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from topics.columns.scan import EventColumns
from topics.decisions import THROTTLE, Decision
from topics.keys import key_of_network

MINUTE_MS = 60_000
ROUNDING = 1e-9  # a token that is due to the millisecond is there


class Bucket:
    """A token bucket: ``rate_per_min`` tokens a minute, at most ``burst`` (one at least, if there is a rate)."""

    __slots__ = ("capacity", "last_ms", "rate_per_ms", "tokens", "until_ms")

    def __init__(self, decision: Decision, now_ms: int, before: Bucket | None) -> None:
        self.rate_per_ms = decision.rate_per_min / MINUTE_MS
        self.capacity = max(decision.burst, 1.0) if decision.rate_per_min > 0 else decision.burst
        self.until_ms = decision.until
        self.last_ms = now_ms
        self.tokens = self.capacity
        if before is not None and before.until_ms > now_ms:
            self.tokens = min(self.capacity, before.tokens + (now_ms - before.last_ms) * before.rate_per_ms)

    def admit(self, now_ms: int, messages: int) -> int:
        """How many of so many messages may pass now; they are taken off the tokens."""
        self.tokens = min(self.capacity, self.tokens + (now_ms - self.last_ms) * self.rate_per_ms)
        self.last_ms = now_ms
        passed = min(messages, int(self.tokens + ROUNDING))
        self.tokens -= passed
        return passed


class Edge:
    """The buckets by key. Bounded by the networks that were ever throttled and have not come back since."""

    def __init__(self, delay_ms: int = 0) -> None:
        self._delay_ms = delay_ms
        self._coming: dict[int, deque[Decision]] = {}
        self._buckets: dict[int, Bucket] = {}

    def learn(self, decisions: Iterable[Decision]) -> None:
        """Decisions on their way to the edge, in the order of their issue."""
        for decision in decisions:
            self._coming.setdefault(key_of_network(decision.network), deque()).append(decision)

    def offer(self, events: EventColumns) -> npt.NDArray[np.int64]:
        """Messages deferred of each event, in order."""
        deferred = np.zeros(len(events.key), np.int64)
        watched = self._coming.keys() | self._buckets.keys()
        if not watched:
            return deferred
        for i in np.flatnonzero(np.isin(events.key, np.fromiter(watched, np.uint64))).tolist():
            messages = int(events.messages[i])
            deferred[i] = messages - self.admit(int(events.key[i]), int(events.ts_ms[i]), messages)
        return deferred

    def admit(self, key: int, now_ms: int, messages: int) -> int:
        """How many of a sender's messages pass now."""
        self._catch_up(key, now_ms)
        bucket = self._buckets.get(key)
        if bucket is not None and bucket.until_ms <= now_ms:
            del self._buckets[key]
            bucket = None
        return messages if bucket is None else bucket.admit(now_ms, messages)

    def _catch_up(self, key: int, now_ms: int) -> None:
        """Take what has arrived for a key."""
        coming = self._coming.get(key)
        while coming and coming[0].issued + self._delay_ms <= now_ms:
            decision = coming.popleft()
            before = self._buckets.pop(key, None)
            if decision.verdict == THROTTLE:
                self._buckets[key] = Bucket(decision, decision.issued + self._delay_ms, before)
        if coming is not None and not coming:
            del self._coming[key]
