"""Workers that die, hang, or are restarted in turn."""

from __future__ import annotations

import random
import time

from tests.support.workers import WorkerProcess
from tests.system.faults.arena import Arena, Ground, owned, pause, resume
from tests.system.faults.catalogue import Catalogue
from tests.system.faults.stalls import Stalls

CRASHES = Catalogue()
DENSE = {"WORKER_CHECKPOINT_INTERVAL_MS": 50}  # a kill is likely to happen during a checkpoint
MAX_START_S = 3.0
MAX_ZOMBIE_S = 30.0


@CRASHES.fault(short=3, whole=50, ground=Ground(events=300_000, options=DENSE))
def kill_9(arena: Arena, times: int) -> None:
    """Kill -9 at random times: during blocks and checkpoints, every third time during start or restoration."""
    draw = random.Random(9)
    with arena.flow():
        for number in range(times):
            worker = arena.start(static=True)
            if number % 3 == 2:
                time.sleep(draw.uniform(0, MAX_START_S))
            else:
                arena.until_working(worker)
                time.sleep(draw.uniform(0, 0.6))
            arena.kill(worker)
        arena.until_working(arena.start(static=True))


@CRASHES.fault(short=0, whole=5, ground=Ground(events=200_000, partitions=6, options=DENSE))
def kill_9_of_one_among_three(arena: Arena, times: int) -> None:
    """Kill -9 of one of three workers; the other two take over its partitions, and a new one joins."""
    workers = [arena.start(name) for name in ("one", "two", "three")]
    with arena.flow():
        arena.until_working(*workers)
        for _ in range(times):
            time.sleep(1)
            victim = workers.pop(0)
            arena.kill(victim)
            arena.until(lambda: sum(map(owned, workers)) == arena.ground.partitions, "partitions taken over")
            workers.append(arena.start(f"another-{len(list(arena.folder.iterdir()))}"))
            arena.until(lambda: owned(workers[-1]) > 0, "the new worker at work")


@CRASHES.fault(short=0, whole=5, ground=Ground(events=150_000, options=DENSE))
def zombie(arena: Arena, times: int) -> None:
    """SIGSTOP of one of two workers past the session timeout; the other takes over; SIGCONT."""
    other = arena.start("other")
    fenced = 0
    with arena.flow():
        arena.until_working(other)
        for number in range(times):
            victim = arena.start(f"zombie-{number}")
            arena.until_working(victim, other)
            pause(victim)
            arena.until(lambda: owned(other) == arena.ground.partitions, "a takeover")
            time.sleep(1)
            resume(victim)
            if _fenced_in_time(arena, victim, other):
                fenced += 1
            else:
                arena.stop(victim, may_be_fenced=True)  # by its old checkpoint, although it is in the group again
    arena.notes["fenced"] = fenced


def _fenced_in_time(arena: Arena, victim: WorkerProcess, other: WorkerProcess) -> bool:
    """Return True if the zombie has ended, False if it has joined again and owns partitions."""
    deadline_s = time.monotonic() + MAX_ZOMBIE_S
    while not arena.fenced(victim):
        if owned(other) < arena.ground.partitions:
            return False
        assert time.monotonic() < deadline_s, "the zombie has neither ended nor joined again"
        time.sleep(0.05)
    return True


@CRASHES.fault(short=0, whole=2, ground=Ground(events=150_000))
def rolling_restart(arena: Arena, times: int) -> None:
    """Three workers with static names are stopped and started again in turn; no partition moves."""
    workers = {name: arena.start(name, static=True) for name in ("one", "two", "three")}
    with arena.flow():
        arena.until_working(*workers.values())
        before = {name: sorted(worker.status["partitions"]) for name, worker in workers.items()}
        with Stalls(arena) as stalls:
            for _ in range(times):
                for name, worker in workers.items():
                    arena.stop(worker)
                    workers[name] = arena.start(name, static=True)
                    arena.until_working(*workers.values())
        after = {name: sorted(worker.status["partitions"]) for name, worker in workers.items()}
    arena.notes["longest_stall_s"] = round(stalls.longest_s, 2)
    if before != after:
        arena.complaints.append(f"partitions moved: {before}, then {after}")
