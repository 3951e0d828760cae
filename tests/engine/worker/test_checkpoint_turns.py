"""When checkpoints are due: one per interval for each partition, and partitions take turns."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detector.throttle import Policy
from engine.state.partition import Partition
from engine.worker import shard as module
from engine.worker.shard import CheckpointBarred, Shard
from tests.support.bench import NUMBER, shard_of
from tests.support.sequences import DAY_MS

INTERVAL_S = 5.0
STEP_S = 0.05
NEVER = 1 << 40


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def monotonic(self) -> float:
        return self.at_s


class ChangedPartition(Partition):
    """A partition with ``rows`` changed rows, of which none is in a checkpoint."""

    def __init__(self, rows: int, applied: int) -> None:
        super().__init__(Policy(1.0, DAY_MS, NUMBER, 8), 64)
        self.state.cursor["dirty"] = rows
        self.state.site["applied_offset"] = applied


def changed(rows: int, phase: float = 0.0, applied: int = 7) -> Shard:
    return shard_of(ChangedPartition(rows, applied), phase=phase)


def due_times(began_s: float, phase: float, count: int) -> list[float]:
    """Return the times of the first checkpoints of a busy partition that was opened at ``began_s``."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(began_s)
        patch.setattr(module, "time", clock)
        shard = changed(1, phase)
        times: list[float] = []
        while len(times) < count:
            clock.at_s += STEP_S
            if shard.is_due(INTERVAL_S, NEVER):
                times.append(clock.at_s)
                asyncio.run(shard.checkpoint())
                shard.partition.state.site["applied_offset"] += 1
        return times


@given(st.floats(0, 1e6), st.integers(0, 7))
def test_each_interval_has_one_checkpoint(began_s: float, number: int) -> None:
    first, *others = due_times(began_s, number / 8, 4)

    assert first - began_s <= INTERVAL_S + STEP_S
    before = first
    for due_s in others:
        assert due_s - before == pytest.approx(INTERVAL_S, abs=1.5 * STEP_S)
        before = due_s


@given(st.floats(0, 1e6))
def test_partitions_opened_together_take_turns(began_s: float) -> None:
    seconds = sorted(due_times(began_s, number / 4, 2)[1] % INTERVAL_S for number in range(4))

    for earlier, later in itertools.pairwise(seconds):
        assert later - earlier == pytest.approx(INTERVAL_S / 4, abs=2 * STEP_S)


def test_many_changed_rows_are_due_before_their_turn() -> None:
    assert changed(100).is_due(1e9, 100)
    assert not changed(100).is_due(1e9, 101)


def test_partition_without_new_events_is_not_due() -> None:
    assert not changed(100, applied=-1).is_due(1e9, 100)


async def test_no_checkpoint_follows_a_failed_one() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    shard = shard_of(ChangedPartition(1, 7), flushed=fail)

    with pytest.raises(ZeroDivisionError):
        await shard.checkpoint()
    with pytest.raises(CheckpointBarred):
        await shard.checkpoint()
