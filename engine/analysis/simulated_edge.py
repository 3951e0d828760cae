"""Simulate an edge over recorded events: the token buckets of the active decisions, and the mail that they defer.

A decision applies to its network from its time of issue plus `delay_ms` until its end. A new bucket is full; one that replaces
an active bucket keeps the tokens left, so a repeated decision refills nothing. Events stay as recorded: the retries of a
deferred sender aren't simulated (`benchmarks/detection/closed_loop.py` does that). An event of a network that was never
throttled costs no Python.
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
from topics.networks import IPV4_BITS, KEY_BITS, network_of

MINUTE_MS = 60_000
ROUNDING = 1e-9  # in tokens: float error must not defer a token that is due to the millisecond


class KeyPrefix(NamedTuple):
    """The keys of a network: those that are `prefix` when shifted right by `shift` bits."""

    shift: int
    prefix: int


@lru_cache(maxsize=65536)
def key_prefix_of(network: str) -> KeyPrefix:
    """Return the key prefix of a decision's network, such as `192.0.2.7/32` or `2001:db8::/32`."""
    parsed = network_of(network)
    shift = (IPV4_BITS if parsed.bits == IPV4_BITS else KEY_BITS) - parsed.length
    return KeyPrefix(shift, parsed.first_key >> shift)


class SimulatedBucket:
    """A token bucket of a decision's rate per minute, of at most `burst` tokens and at least one if there is a rate."""

    __slots__ = ("capacity", "last_ms", "rate_per_ms", "tokens", "until_ms")

    def __init__(self, decision: Decision, now_ms: int, replaced: SimulatedBucket | None) -> None:
        self.rate_per_ms = decision.rate_per_min / MINUTE_MS
        self.capacity = max(decision.burst, 1.0) if decision.rate_per_min > 0 else decision.burst
        self.until_ms = decision.until
        self.last_ms = now_ms
        self.tokens = self.capacity
        if replaced is not None and replaced.until_ms > now_ms:
            self.tokens = min(self.capacity, replaced.tokens + (now_ms - replaced.last_ms) * replaced.rate_per_ms)

    def take_tokens(self, now_ms: int, messages: int) -> int:
        """Consume one token per message and return how many messages may pass now."""
        self.tokens = min(self.capacity, self.tokens + (now_ms - self.last_ms) * self.rate_per_ms)
        self.last_ms = now_ms
        passed = min(messages, int(self.tokens + ROUNDING))
        self.tokens -= passed
        return passed


class SimulatedEdge:
    """Token buckets by network; of the active ones that cover a sender, the longest prefix applies.

    Memory grows with the networks that were ever throttled and have sent nothing since.
    """

    def __init__(self, delay_ms: int = 0, verdicts: tuple[str, ...] = (THROTTLE,)) -> None:
        self._delay_ms = delay_ms  # from a decision's issue until the edge applies it
        self._verdicts = verdicts  # that throttle; any other ends its network's throttle
        self._pending: dict[KeyPrefix, deque[Decision]] = {}
        self._buckets: dict[KeyPrefix, SimulatedBucket] = {}
        self._shifts: list[int] = []  # of all networks so far, longest prefix first

    def add(self, decisions: Iterable[Decision]) -> None:
        """Queue decisions, in the order of their issue."""
        for decision in decisions:
            prefix = key_prefix_of(decision.network)
            self._pending.setdefault(prefix, deque()).append(decision)
            if prefix.shift not in self._shifts:
                self._shifts = sorted([*self._shifts, prefix.shift])

    def deferred(self, events: EventColumns) -> npt.NDArray[np.int64]:
        """Let a block of events pass, in order, and return the messages deferred of each."""
        deferred, covered = np.zeros(len(events.key), np.int64), np.zeros(len(events.key), bool)
        throttled = self._pending.keys() | self._buckets.keys()
        for shift in self._shifts:
            prefixes = np.array([network.prefix for network in throttled if network.shift == shift], np.uint64)
            covered |= np.isin(events.key >> np.uint64(shift), prefixes)
        for i in np.flatnonzero(covered).tolist():
            messages = int(events.messages[i])
            deferred[i] = messages - self.take_tokens(int(events.key[i]), int(events.ts_ms[i]), messages)
        return deferred

    def take_tokens(self, key: int, now_ms: int, messages: int) -> int:
        """Consume tokens for a sender's messages and return how many may pass now."""
        for shift in self._shifts:
            prefix = KeyPrefix(shift, key >> shift)
            self._apply_due(prefix, now_ms)
            bucket = self._buckets.get(prefix)
            if bucket is None:
                continue
            if bucket.until_ms > now_ms:
                return bucket.take_tokens(now_ms, messages)
            del self._buckets[prefix]
        return messages

    def _apply_due(self, prefix: KeyPrefix, now_ms: int) -> None:
        """Apply the decisions on a network that have reached the edge by now."""
        pending = self._pending.get(prefix)
        while pending and pending[0].issued + self._delay_ms <= now_ms:
            decision = pending.popleft()
            replaced = self._buckets.pop(prefix, None)
            if decision.verdict in self._verdicts:
                self._buckets[prefix] = SimulatedBucket(decision, decision.issued + self._delay_ms, replaced)
        if pending is not None and not pending:
            del self._pending[prefix]
