"""A broker that dies, hangs, is unreachable, or has a full disk."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.support.workers import tidegate
from tests.system.faults.arena import Arena, Ground
from tests.system.faults.catalogue import Catalogue
from tests.system.faults.disk import filled

BROKERS = Catalogue()
FULL_S = 60.0


@BROKERS.fault(short=1, whole=5, ground=Ground(events=150_000))
def broker_killed(arena: Arena, times: int) -> None:
    """Kill -9 of the broker while events flow, and a start on the same port."""
    draw = random.Random(3)
    worker = arena.start()
    with arena.flow():
        arena.until_working(worker)
        for _ in range(times):
            time.sleep(draw.uniform(0.5, 2))
            arena.broker.kill()
            time.sleep(draw.uniform(0, 2))
            arena.broker.start()
        time.sleep(1)


@BROKERS.fault(short=0, whole=1, ground=Ground(events=60_000))
def broker_down_at_start(arena: Arena, times: int) -> None:
    """A worker without a broker reports it in one line and ends with status 2; with the broker back, a worker runs."""
    arena.source.send(20_000)
    arena.broker.kill()
    try:
        for _ in range(times):
            refusal(arena, f"Kafka at {arena.space.bootstrap} can't be used")
    finally:
        arena.broker.start()
    arena.start()


@BROKERS.fault(short=0, whole=15, ground=Ground(events=100_000))
def broker_frozen(arena: Arena, seconds: int) -> None:
    """Seconds, longer than the session timeout, in which the broker is stopped (SIGSTOP) while a worker has work to write."""
    worker = arena.start()
    with arena.flow():
        arena.until_working(worker)
        os.kill(arena.broker.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(arena.broker.pid, signal.SIGCONT)
        time.sleep(1)


@BROKERS.fault(short=0, whole=1, ground=Ground(events=100_000, disk_mb=160))
def broker_disk_full(arena: Arena, times: int) -> None:
    """The broker's disk is full and the broker ends; after a restart with free space the worker continues."""
    worker = arena.start()
    with arena.flow():
        arena.until_working(worker)
        for _ in range(times):
            with filled(arena.broker.data_dir):
                arena.until(lambda: not arena.broker.running, "the broker's end", FULL_S)
            arena.broker.kill()
            arena.broker.start()
            time.sleep(1)


def refusal(arena: Arena, wanted: str) -> None:
    """Complain unless a worker refuses to start: status 2, and one line with ``wanted``."""
    refused = tidegate("worker", env=arena.env)
    lines = refused.stderr.decode().strip().splitlines()
    if refused.returncode != 2 or len(lines) != 1 or wanted not in lines[0]:
        arena.complaints.append(f"not refused with 2 and one line, but {refused.returncode}: {lines}")
