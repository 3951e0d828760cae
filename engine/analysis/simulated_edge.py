"""An edge in simulation: the token buckets of the decisions in force, and what they let pass.

A decision covers its network from its time of issue (plus ``delay_ms``, what it takes to get there) until its end. A fresh
bucket is full; one that replaces a bucket in force keeps the tokens left, so a repeated decision refills nothing. A sender
whose mail is deferred does here what it did in the recording: whether it comes back is not simulated
(`benchmarks/closed_loop.py` does that). Cost: an event of a network that was never throttled costs no Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topics.columns.scan import EventColumns
from topics.decisions import THROTTLE, Decision
from topics.keys import key_of

MINUTE_MS = 60_000
ROUNDING = 1e-9  # a token that is due to the millisecond is there


class Place(NamedTuple):
    """A network as the keys under it: those that are ``prefix`` when shifted right by ``shift``."""

    shift: int
    prefix: int

    def holds(self, key: int) -> bool:
        """Whether a key lies in the network."""
        return key >> self.shift == self.prefix


@lru_cache(maxsize=65536)
def place_of(network: str) -> Place:
    """The place of a network as decisions name it: ``192.0.2.7/32``, ``2001:db8::/32``."""
    address, _, length = network.partition("/")
    shift = (64 if ":" in address else 32) - int(length)
    return Place(shift, key_of(address) >> shift)


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
    """The buckets by network; the longest network in force that holds an address counts. Bounded by the networks that were
    ever throttled and have not come back since. ``verdicts``: of decisions that hold; any other ends what its network had."""

    def __init__(self, delay_ms: int = 0, verdicts: tuple[str, ...] = (THROTTLE,)) -> None:
        self._delay_ms, self._verdicts = delay_ms, verdicts
        self._coming: dict[Place, deque[Decision]] = {}
        self._buckets: dict[Place, Bucket] = {}
        self._shifts: list[int] = []  # of all networks so far, the longest networks first

    def learn(self, decisions: Iterable[Decision]) -> None:
        """Decisions on their way to the edge, in the order of their issue."""
        for decision in decisions:
            place = place_of(decision.network)
            self._coming.setdefault(place, deque()).append(decision)
            if place.shift not in self._shifts:
                self._shifts = sorted([*self._shifts, place.shift])

    def offer(self, events: EventColumns) -> npt.NDArray[np.int64]:
        """Messages deferred of each event, in order."""
        deferred, watched = np.zeros(len(events.key), np.int64), np.zeros(len(events.key), bool)
        places = self._coming.keys() | self._buckets.keys()
        for shift in self._shifts:
            prefixes = np.array([place.prefix for place in places if place.shift == shift], np.uint64)
            watched |= np.isin(events.key >> np.uint64(shift), prefixes)
        for i in np.flatnonzero(watched).tolist():
            messages = int(events.messages[i])
            deferred[i] = messages - self.admit(int(events.key[i]), int(events.ts_ms[i]), messages)
        return deferred

    def admit(self, key: int, now_ms: int, messages: int) -> int:
        """How many of a sender's messages pass now."""
        for shift in self._shifts:
            place = Place(shift, key >> shift)
            self._catch_up(place, now_ms)
            bucket = self._buckets.get(place)
            if bucket is None:
                continue
            if bucket.until_ms > now_ms:
                return bucket.admit(now_ms, messages)
            del self._buckets[place]
        return messages

    def _catch_up(self, place: Place, now_ms: int) -> None:
        """Take what has arrived for a network."""
        coming = self._coming.get(place)
        while coming and coming[0].issued + self._delay_ms <= now_ms:
            decision = coming.popleft()
            before = self._buckets.pop(place, None)
            if decision.verdict in self._verdicts:
                self._buckets[place] = Bucket(decision, decision.issued + self._delay_ms, before)
        if coming is not None and not coming:
            del self._coming[place]
