"""The circuit breaker in plain Python. Units are those of `tests.oracles.detector`."""

from __future__ import annotations

SENDERS = 6
WINDOW_MS = 30_000
FORGET_MS = 3_600_000
REARM_MS = 600_000
MOST_SUSPECTS = 256


class BreakerOracle:
    """Trips on throttles of known senders, each sender counted once.

    It trips when they are 6 more than `share` of the senders without a throttle since the first one and in the half minute
    before, each counted once per half minute. It re-arms after ten minutes without as many senders in alarm.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.excess = 0.0
        self.excess_since_ms = 0
        self.suspects: list[int] = []
        self.pending: list[int] = []
        self.window_ms = 0
        self.rearm_ms: int | None = None
        self.free = self.free_before = 0
        self.senders = self.alarms = 0
        self.tripped_ms = 0
        self.trips = self.withdrawn = 0

    @property
    def is_open(self) -> bool:
        """True while throttles are suppressed."""
        return self.rearm_ms is not None

    def rearm(self, clock_ms: int) -> None:
        """Close an open breaker, or keep it open for ten more minutes."""
        if self.rearm_ms is None or clock_ms < self.rearm_ms:
            return
        is_silent = clock_ms >= self.rearm_ms + REARM_MS
        if is_silent or self.alarms - self.share * self.senders < SENDERS:
            self.rearm_ms, self.excess = None, 0.0
        else:
            self.rearm_ms = clock_ms + REARM_MS
        self.window_ms = clock_ms
        self.senders = self.alarms = 0

    def count_throttle(self, key: int, clock_ms: int) -> bool:
        """Count a known sender that is about to be newly throttled. Return True if this trips the breaker."""
        if self.excess == 0.0 or clock_ms - self.excess_since_ms > FORGET_MS:
            self.excess, self.excess_since_ms, self.suspects = 0.0, clock_ms, []
        if key in self.suspects:
            return False
        self.suspects.append(key)
        self.excess += 1.0
        if self.excess < SENDERS + self.share * self.free_before and len(self.suspects) < MOST_SUSPECTS:
            return False
        self.trips += 1
        self.tripped_ms = self.window_ms = clock_ms
        self.rearm_ms = clock_ms + REARM_MS
        self.pending, self.suspects = self.suspects, []
        self.free = self.free_before = 0
        self.senders = self.alarms = 0
        return True

    def count_sender(self, last_ms: int, clock_ms: int, is_free: bool, is_alarmed: bool) -> None:
        """Count a known sender's accepted mail. `last_ms` is the time of its previous event.

        `is_free`: it has no active throttle of its own; `is_alarmed`: it is above a limit.
        """
        if not self.is_open and clock_ms - self.window_ms >= WINDOW_MS:
            start_ms = clock_ms // WINDOW_MS * WINDOW_MS
            follows = start_ms == self.window_ms + WINDOW_MS
            self.free_before, self.free, self.window_ms = self.free if follows else 0, 0, start_ms
        if last_ms >= self.window_ms:
            return
        if self.is_open:
            self.senders += 1
            self.alarms += is_alarmed
        elif is_free:
            self.free += 1
            self.excess = max(0.0, self.excess - self.share)
