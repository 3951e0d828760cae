"""Partitions that move while events flow."""

from __future__ import annotations

import itertools
import random
import time

from tests.support.workers import WorkerProcess
from tests.system.faults import cluster
from tests.system.faults.arena import Arena, Ground
from tests.system.faults.catalogue import Catalogue

REBALANCES = Catalogue()
EVERY_S = 2.0
RESTORE_BYTES_PER_S = 1_500_000


def _storm(arena: Arena, seconds: float) -> None:
    """Every two seconds let a worker join, or the oldest guest leave: one to three workers run."""
    guests: list[WorkerProcess] = []
    pattern = itertools.cycle(("join", "join", "leave", "leave"))
    changes, deadline_s = 0, time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if next(pattern) == "join":
            guests.append(arena.start(f"guest-{changes}"))
        else:
            arena.leave(guests.pop(0))
        changes += 1
        time.sleep(EVERY_S)
    for guest in guests:
        arena.leave(guest)
    arena.notes["changes"] = changes


@REBALANCES.fault(short=15, whole=120, ground=Ground(events=250_000))
def rebalance_storm(arena: Arena, seconds: int) -> None:
    """Seconds in which a second and third worker join and leave every 2 s."""
    host = arena.start("host")
    with arena.flow():
        arena.until_working(host)
        _storm(arena, seconds)


@REBALANCES.fault(short=0, whole=30, ground=Ground(events=120_000, hot=True))
def hot_key_in_a_storm(arena: Arena, seconds: int) -> None:
    """Seconds in which one sender has half of the traffic, workers join and leave every 2 s, and partitions move."""
    host = arena.start("host")
    with arena.flow():
        arena.until_working(host)
        _storm(arena, seconds)


@REBALANCES.fault(short=0, whole=6, ground=Ground(events=160_000, keys=100_000))
def rebalance_during_recovery(arena: Arena, times: int) -> None:
    """A second worker joins and is killed while the first one restores its state (slowed down by a quota)."""
    draw = random.Random(5)
    arena.source.send(100_000)
    first = arena.start("first")
    arena.settle()
    arena.stop(first)
    cluster.limit(arena.space.bootstrap, "consumer_byte_rate", RESTORE_BYTES_PER_S)
    try:
        with arena.flow():
            for _ in range(times):
                first, second = arena.start("first", static=True), arena.start("second")
                arena.until(lambda: bool(first.status and second.status), "two workers started")  # noqa: B023
                time.sleep(draw.uniform(0.2, 2))
                arena.kill(second)
                time.sleep(draw.uniform(0, 2))
                arena.kill(first)
            arena.start("first", static=True)
            time.sleep(1)
            arena.start("second")
    finally:
        cluster.limit(arena.space.bootstrap, "consumer_byte_rate", None)
