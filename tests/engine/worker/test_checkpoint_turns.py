"""When checkpoints fall due: one an interval for each partition, and partitions by turns."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker import shard as module
from engine.worker.shard import Shard

INTERVAL_S = 5.0
STEP_S = 0.05
NEVER = 1 << 40


class Clock:
    """Stands until it is set."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def monotonic(self) -> float:
        return self.at_s


def changed(rows: int, phase: float = 0.0, applied: int = 7) -> Shard:
    """A partition with so many changed rows, that nobody has saved."""
    state = SimpleNamespace(site=np.zeros(1))
    partition = SimpleNamespace(applied_offset=applied, dirty=rows, state=state)
    return Shard(cast(Any, SimpleNamespace(partition=partition)), cast(Any, None), cast(Any, None), phase)


def dues(began_s: float, phase: float, turns: int) -> list[float]:
    """When the first checkpoints of a busy partition fall due that was opened at ``began_s``."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(began_s)
        patch.setattr(module, "time", clock)
        shard = changed(1, phase)
        found: list[float] = []
        while len(found) < turns:
            clock.at_s += STEP_S
            if shard.due(INTERVAL_S, NEVER):
                found.append(clock.at_s)
                shard._last_s = clock.at_s
        return found


@given(st.floats(0, 1e6), st.integers(0, 7))
def test_each_interval_has_one_checkpoint(began_s: float, number: int) -> None:
    first, *others = dues(began_s, number / 8, 4)
    assert first - began_s <= INTERVAL_S + STEP_S
    before = first
    for due_s in others:
        assert due_s - before == pytest.approx(INTERVAL_S, abs=1.5 * STEP_S)
        before = due_s


@given(st.floats(0, 1e6))
def test_partitions_opened_together_save_their_state_by_turns(began_s: float) -> None:
    seconds = sorted(dues(began_s, number / 4, 2)[1] % INTERVAL_S for number in range(4))
    for earlier, later in itertools.pairwise(seconds):
        assert later - earlier == pytest.approx(INTERVAL_S / 4, abs=2 * STEP_S)


def test_many_changed_rows_do_not_wait_for_their_turn() -> None:
    assert changed(100).due(1e9, 100)
    assert not changed(100).due(1e9, 101)


def test_nothing_new_is_no_checkpoint() -> None:
    assert not changed(100, applied=-1).due(1e9, 100)
