"""The fleet guard in plain Python: the twin of the circuit breaker. Units are those of `tests.oracles.detector`."""

from __future__ import annotations

SENDERS = 6
FREE_EVERY_MS = 30_000
FORGET_MS = 3_600_000
QUIET_MS = 600_000
MOST_SUSPECTS = 256


class Guard:
    """Trips when throttles of known senders, each counted once, are six more than ``cap`` of those who sent freely since the
    first and in the half minute before, each counted once in it; re-arms after ten minutes without as many in alarm."""

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.excess = 0.0
        self.since_ms = 0
        self.suspects: list[int] = []
        self.leaving: list[int] = []
        self.seen_from_ms = 0
        self.quiet_until_ms: int | None = None
        self.free = self.free_before = 0
        self.senders = self.alarms = 0
        self.tripped_ms = 0
        self.trips = self.withdrawn = 0

    @property
    def tripped(self) -> bool:
        """Whether decisions are kept back."""
        return self.quiet_until_ms is not None

    def turn(self, clock_ms: int) -> None:
        """Re-arm, or watch for ten more minutes."""
        if self.quiet_until_ms is None or clock_ms < self.quiet_until_ms:
            return
        silent = clock_ms >= self.quiet_until_ms + QUIET_MS
        if silent or self.alarms - self.cap * self.senders < SENDERS:
            self.quiet_until_ms, self.excess = None, 0.0
        else:
            self.quiet_until_ms = clock_ms + QUIET_MS
        self.seen_from_ms = clock_ms
        self.senders = self.alarms = 0

    def throttled(self, key: int, clock_ms: int) -> bool:
        """A known sender is about to be throttled anew: whether that trips."""
        if self.excess == 0.0 or clock_ms - self.since_ms > FORGET_MS:
            self.excess, self.since_ms, self.suspects = 0.0, clock_ms, []
        if key in self.suspects:
            return False
        self.suspects.append(key)
        self.excess += 1.0
        if self.excess < SENDERS + self.cap * self.free_before and len(self.suspects) < MOST_SUSPECTS:
            return False
        self.trips += 1
        self.tripped_ms = self.seen_from_ms = clock_ms
        self.quiet_until_ms = clock_ms + QUIET_MS
        self.leaving, self.suspects = self.suspects, []
        self.free = self.free_before = 0
        self.senders = self.alarms = 0
        return True

    def accepted(self, last_ms: int, clock_ms: int, free: bool, alarm: bool) -> None:
        """A known sender's mail came, its last event before that at ``last_ms``; ``free``: no throttle of its own is live;
        ``alarm``: it is beyond a limit."""
        if not self.tripped and clock_ms - self.seen_from_ms >= FREE_EVERY_MS:
            start_ms = clock_ms // FREE_EVERY_MS * FREE_EVERY_MS
            follows = start_ms == self.seen_from_ms + FREE_EVERY_MS
            self.free_before, self.free, self.seen_from_ms = self.free if follows else 0, 0, start_ms
        if last_ms >= self.seen_from_ms:
            return
        if self.tripped:
            self.senders += 1
            self.alarms += alarm
        elif free:
            self.free += 1
            self.excess = max(0.0, self.excess - self.cap)
