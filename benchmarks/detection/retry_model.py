"""Simulate senders that retry deferred messages, an edge that defers them, and the engine that gets the events.

Event time advances by one second: the events of a second meet the decisions of the seconds before, so a decision is active
a second after the event that led to it. Everything is drawn from a seed. Retry schedules follow the programs'
documentation; each message has its own, as in their queues.

Not simulated: one connection for several messages (a program that sends its whole queue in a burst gets the tokens of that
time), other addresses of the same sender, and senders that reduce their rate on their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.harness.traffic import columns_of
from engine.analysis.collateral import Collateral
from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.load import Settings
from engine.pipeline import build
from topics.columns.scan import ACCEPTED, DEFERRED, EventColumns
from topics.decisions import Decision
from topics.networks import network_text

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000

Schedule = Callable[[int], int | None]  # age of the message in ms -> ms until the next attempt, None to give up


def postfix(age_ms: int) -> int | None:
    """Wait as long as the message is old, 300 s to 4,000 s, until the next queue run (every 300 s); give up after five days."""
    if age_ms > 5 * DAY_MS:
        return None
    wait_ms = min(max(age_ms, 300 * SECOND_MS), 4000 * SECOND_MS)
    return -(-wait_ms // (300 * SECOND_MS)) * 300 * SECOND_MS


def exim(age_ms: int) -> int | None:
    """Retry every 15 minutes for two hours, then after an hour growing by half until 16 hours, then every six; four days."""
    if age_ms > 4 * DAY_MS:
        return None
    if age_ms < 2 * HOUR_MS:
        return 15 * MINUTE_MS
    return max(HOUR_MS, age_ms // 2) if age_ms < 16 * HOUR_MS else 6 * HOUR_MS


def half_hourly(age_ms: int) -> int | None:
    """Retry every 30 minutes, the least that RFC 5321 (4.5.4.1) recommends, and sendmail's usual queue run; five days."""
    return None if age_ms > 5 * DAY_MS else 30 * MINUTE_MS


def once(_age_ms: int) -> int | None:
    """Never retry, as most spam software."""
    return None


def insisting(age_ms: int) -> int | None:
    """Retry every five minutes for an hour: spam that insists."""
    return None if age_ms > HOUR_MS else 5 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender with its messages."""

    key: int
    sent_ms: list[int]  # when each message is sent first
    burst_end_ms: int  # then it sends as usual, or nothing
    schedule: Schedule  # of a deferred message


@dataclass(slots=True)
class Fate:
    """The outcome of a sender's messages."""

    delays_ms: list[int] = field(default_factory=list)  # of each delivered message since its first attempt, mostly 0
    given_up: int = 0
    attempts: int = 0
    waiting: int = 0  # messages deferred and not delivered yet
    backlogs: list[int] = field(default_factory=list)  # messages waiting when each throttle began
    echoes: list[int] = field(default_factory=list)  # those of throttles begun after the burst, caused by retries


class Loop:
    """Engine and edge. With ``retries_count`` the edge reports a deferred attempt as if it were new mail."""

    def __init__(self, settings: Settings, *, retries_count: bool = False) -> None:
        assert settings.topics.partitions == 1
        self.edge = SimulatedEdge(SECOND_MS)
        self.collateral = Collateral()
        self._engine = build.replay(settings)
        self._deferred_as = ACCEPTED if retries_count else DEFERRED

    def history(self, mails: Iterable[tuple[int, int]]) -> None:
        """Apply recorded mail, (ms, key) in order, of which nothing was deferred: decisions on it are dropped."""
        found = list(mails)
        self._engine.decide(_columns([(ts_ms, key, ACCEPTED) for ts_ms, key in found]))

    def run(self, senders: list[Sender]) -> list[Fate]:
        """Simulate until every message is delivered or given up."""
        fates = [Fate() for _ in senders]
        numbers = {network_text(sender.key): number for number, sender in enumerate(senders)}
        queue = [(ts_ms, number, ts_ms) for number, sender in enumerate(senders) for ts_ms in sender.sent_ms]
        heapq.heapify(queue)
        while queue:
            second, events = queue[0][0] // SECOND_MS, []
            while queue and queue[0][0] // SECOND_MS == second:
                now_ms, number, born_ms = heapq.heappop(queue)
                outcome, next_ms = self._attempt(senders[number], fates[number], now_ms, born_ms)
                events.append((now_ms, senders[number].key, outcome))
                if next_ms is not None:
                    heapq.heappush(queue, (next_ms, number, born_ms))
            for began in self._apply(events):
                fate = fates[numbers[began.network]]
                fate.backlogs.append(fate.waiting)
                if began.issued > senders[numbers[began.network]].burst_end_ms:
                    fate.echoes.append(fate.waiting)
        return fates

    def _attempt(self, sender: Sender, fate: Fate, now_ms: int, born_ms: int) -> tuple[int, int | None]:
        """Offer one message to the edge; return the outcome that it reports, and when the message is tried again."""
        fate.attempts += 1
        if self.edge.take_tokens(sender.key, now_ms, 1):
            fate.waiting -= now_ms > born_ms
            fate.delays_ms.append(now_ms - born_ms)
            return ACCEPTED, None
        fate.waiting += now_ms == born_ms
        wait_ms = sender.schedule(now_ms - born_ms)
        if wait_ms is None:
            fate.given_up += 1
            fate.waiting -= 1
            return self._deferred_as, None
        return self._deferred_as, now_ms + wait_ms

    def _apply(self, events: list[tuple[int, int, int]]) -> list[Decision]:
        """Apply events to the engine; return the decisions that begin a throttle."""
        began = []
        for decision in self._engine.decide(_columns(events)):
            before = self.collateral.throttles
            self.collateral.add_decisions([decision])
            self.edge.add([decision])
            if self.collateral.throttles > before:
                began.append(decision)
        return began


def _columns(events: list[tuple[int, int, int]]) -> EventColumns:
    keys, times_ms = np.array([event[1] for event in events], np.uint64), np.array([event[0] for event in events])
    columns = columns_of(keys, times_ms)
    columns.outcome[:] = [event[2] for event in events]
    return columns


def office_days(random: np.random.Generator, per_hour: float, days: int, first_ms: int) -> Iterator[int]:
    """Return the times of mail of ``days`` working days of nine hours, in order, ms: Poisson, some days busier than others."""
    for number in range(days):
        start_ms = first_ms + (number // 5 * 7 + number % 5) * DAY_MS + 8 * HOUR_MS
        busy = per_hour * random.lognormal(0.0, 0.3)
        yield from sorted((start_ms + random.integers(0, 9 * HOUR_MS, random.poisson(9 * busy))).tolist())
