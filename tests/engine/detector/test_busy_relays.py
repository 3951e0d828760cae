"""Busy relays: their jumps are seen within minutes, their honest mail flows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.relays import DAY_MS, MONDAY_MS, TICK_MS, TICKS, columns_of, held_back, jump, relays, steady
from engine.detector.throttle import Policy
from engine.detector.verdict import THROTTLE
from engine.state.partition import Partition

NOON = TICKS // 2


def learning() -> Partition:
    return Partition(Policy(1.0, DAY_MS, 0, 1, learning_ms=7 * DAY_MS), 1024)


@pytest.mark.parametrize(("factor", "within_min"), [(10, 1), (5, 10)])
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_a_jump_of_a_relay_of_ten_thousand_an_hour_is_throttled_within_minutes(
    seed: int, factor: int, within_min: int
) -> None:
    tick = 28 * TICKS + NOON - TICKS // 24
    columns = columns_of(jump(steady(seed, 29, 10_000), 0, tick, factor))
    verdicts = learning().apply(columns, 0, len(columns.offset))
    jumped_ms = MONDAY_MS + tick * TICK_MS
    throttles = verdicts[(verdicts["kind"] == THROTTLE) & (verdicts["issued_ms"] >= jumped_ms)]
    assert throttles["issued_ms"][0] <= jumped_ms + within_min * 60_000
    assert not ((verdicts["kind"] == THROTTLE) & (verdicts["issued_ms"] < jumped_ms)).any()


def test_busy_seasonal_relays_with_mail_outs_lose_little() -> None:
    found = relays(0, 4, 21)
    columns = columns_of(found)
    verdicts = learning().apply(columns, 0, len(columns.offset))
    held = held_back(columns, verdicts[verdicts["kind"] == THROTTLE])
    assert held.sum() <= 0.005 * columns.messages.sum()


def test_the_relays_are_what_they_are_said_to_be() -> None:
    found, again = relays(5, 6, 28), relays(5, 6, 28)
    assert np.array_equal(found.messages, again.messages)
    hourly = found.messages.reshape(6, 28 * 24, TICKS // 24).sum(axis=2)
    assert (hourly.max(axis=1) > 3 * np.median(hourly, axis=1)).all()
    assert ((found.means >= 500) & (found.means <= 20_000)).all()
