"""The closed loop in simulation: senders who retry what was deferred, an edge that defers, the engine that hears of it.

Event time moves a second at a time: what comes in a second meets the decisions of the seconds before, so a decision is in
force a second after the event that led to it. Everything is drawn from a seed. Schedules are those of the programs'
documentation; each message has its own, as in their queues.

Not simulated: one connection for several messages (a program that sends its whole queue at once is let in by the tokens of
that moment), other addresses of the same sender, and senders who slow down by themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.analysis.collateral import Collateral
from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.load import Settings
from engine.pipeline import build
from topics.columns.scan import ACCEPTED, DEFERRED, READY, EventColumns, empty_columns
from topics.decisions import Decision
from topics.networks import network_text

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000

Schedule = Callable[[int], int | None]  # age of the message in ms -> ms until the next attempt, None to give up


def postfix(age_ms: int) -> int | None:
    """As long again as the message is old, from 300 s to 4,000 s, at a queue run (300 s); five days."""
    if age_ms > 5 * DAY_MS:
        return None
    wait_ms = min(max(age_ms, 300 * SECOND_MS), 4000 * SECOND_MS)
    return -(-wait_ms // (300 * SECOND_MS)) * 300 * SECOND_MS


def exim(age_ms: int) -> int | None:
    """Every 15 minutes for two hours, then an hour growing by half until 16 hours, then every six hours; four days."""
    if age_ms > 4 * DAY_MS:
        return None
    if age_ms < 2 * HOUR_MS:
        return 15 * MINUTE_MS
    return max(HOUR_MS, age_ms // 2) if age_ms < 16 * HOUR_MS else 6 * HOUR_MS


def half_hourly(age_ms: int) -> int | None:
    """Every 30 minutes, the least that RFC 5321 (4.5.4.1) recommends, and sendmail's usual queue run; five days."""
    return None if age_ms > 5 * DAY_MS else 30 * MINUTE_MS


def once(_age_ms: int) -> int | None:
    """Never again: most of what sends spam."""
    return None


def insisting(age_ms: int) -> int | None:
    """Every five minutes for an hour: spam that retries."""
    return None if age_ms > HOUR_MS else 5 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Sender:
    """``sent_ms``: when each message is sent first; ``burst_end_ms``: from then on it sends as usual, or nothing; ``schedule``:
    what becomes of a deferred message."""

    key: int
    sent_ms: list[int]
    burst_end_ms: int
    schedule: Schedule


@dataclass(slots=True)
class Fate:
    """What became of a sender's messages. ``delays_ms``: of each delivered message from its first attempt, 0 for most;
    ``waiting``: messages deferred and not delivered yet; ``backlogs``: what was waiting when each throttle began;
    ``echoes``: those of throttles begun after the burst, which the retries led to."""

    delays_ms: list[int] = field(default_factory=list)
    given_up: int = 0
    attempts: int = 0
    waiting: int = 0
    backlogs: list[int] = field(default_factory=list)
    echoes: list[int] = field(default_factory=list)


class Loop:
    """Engine and edge. ``retries_count``: the edge reports a deferred attempt as if it were new mail."""

    def __init__(self, settings: Settings, *, retries_count: bool = False) -> None:
        assert settings.topics.partitions == 1
        self.edge = SimulatedEdge(SECOND_MS)
        self.collateral = Collateral()
        self._engine = build.replay(settings)
        self._deferred_as = ACCEPTED if retries_count else DEFERRED

    def history(self, mails: Iterable[tuple[int, int]]) -> None:
        """Recorded mail, (ms, key) in order, that nothing of was ever deferred: decisions on it are forgotten."""
        found = list(mails)
        self._engine.decide(_columns([(ts_ms, key, ACCEPTED) for ts_ms, key in found]))

    def run(self, senders: list[Sender]) -> list[Fate]:
        """Let all of them send until every message is delivered or given up."""
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
            for began in self._hear(events):
                fate = fates[numbers[began.network]]
                fate.backlogs.append(fate.waiting)
                if began.issued > senders[numbers[began.network]].burst_end_ms:
                    fate.echoes.append(fate.waiting)
        return fates

    def _attempt(self, sender: Sender, fate: Fate, now_ms: int, born_ms: int) -> tuple[int, int | None]:
        """One message at the edge: what the edge reports, and when it will be tried again."""
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

    def _hear(self, events: list[tuple[int, int, int]]) -> list[Decision]:
        """Tell the engine; the decisions that begin a spell."""
        began = []
        for decision in self._engine.decide(_columns(events)):
            before = self.collateral.throttles
            self.collateral.add_decisions([decision])
            self.edge.add([decision])
            if self.collateral.throttles > before:
                began.append(decision)
        return began


def _columns(events: list[tuple[int, int, int]]) -> EventColumns:
    columns = empty_columns(len(events))
    columns.status[:], columns.messages[:] = READY, 1
    columns.ts_ms[:] = columns.record_ms[:] = [event[0] for event in events]
    columns.key[:] = np.array([event[1] for event in events], np.uint64)
    columns.outcome[:] = [event[2] for event in events]
    return columns


def office_days(random: np.random.Generator, per_hour: float, days: int, first_ms: int) -> Iterator[int]:
    """Mail of ``days`` working days, nine hours each: Poisson, with days that are busier than others. In order, ms."""
    for number in range(days):
        start_ms = first_ms + (number // 5 * 7 + number % 5) * DAY_MS + 8 * HOUR_MS
        busy = per_hour * random.lognormal(0.0, 0.3)
        yield from sorted((start_ms + random.integers(0, 9 * HOUR_MS, random.poisson(9 * busy))).tolist())
