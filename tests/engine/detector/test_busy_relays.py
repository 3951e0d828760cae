"""Busy relays: their jumps are throttled within minutes, their honest mail passes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.traffic import MONDAY_MS, TICK_MS, TICKS, Relays, relay_columns, relays, season
from engine.analysis.simulated_edge import SimulatedEdge
from engine.config.load import load_settings
from engine.pipeline.build import replay
from topics.columns.scan import EventColumns
from topics.decisions import THROTTLE, Decision

NOON = TICKS // 2
SETTINGS = load_settings(
    None, {}, {"topics.partitions": 1, "worker.rows_per_partition": 1024, "model.learning_days": 7}
)


def throttles_of(columns: EventColumns) -> list[Decision]:
    return [decision for decision in replay(SETTINGS).decide(columns) if decision.verdict == THROTTLE]


def steady(seed: int, days: int, mean: float) -> Relays:
    """Return one relay that varies by a third as much as others and has no mail-outs."""
    rng = np.random.default_rng(seed)
    return Relays(rng.poisson(season(rng, days, 0.3) * mean * 24 / TICKS)[None, :], np.array([mean]))


def jump(found: Relays, relay: int, tick: int, factor: int) -> Relays:
    """Return the same relays, but one sends ``factor`` times as much for an hour from a tick on."""
    messages = found.messages.copy()
    messages[relay, tick : tick + TICKS // 24] *= factor
    return Relays(messages, found.means)


@pytest.mark.parametrize(("factor", "within_min"), [(10, 1), (5, 10)])
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_jump_of_a_relay_of_ten_thousand_an_hour_is_throttled_within_minutes(
    seed: int, factor: int, within_min: int
) -> None:
    tick = 28 * TICKS + NOON - TICKS // 24
    columns = relay_columns(jump(steady(seed, 29, 10_000), 0, tick, factor))
    jumped_ms = MONDAY_MS + tick * TICK_MS

    issued_ms = [throttle.issued for throttle in throttles_of(columns)]

    assert jumped_ms <= issued_ms[0] <= jumped_ms + within_min * 60_000


def test_busy_seasonal_relays_with_mail_outs_lose_little() -> None:
    columns = relay_columns(relays(0, 4, 21))
    edge = SimulatedEdge()

    edge.add(throttles_of(columns))

    assert edge.deferred(columns).sum() <= 0.005 * columns.messages.sum()


def test_simulated_relays_are_bursty_and_repeatable() -> None:
    one, again = relays(5, 6, 28), relays(5, 6, 28)

    assert np.array_equal(one.messages, again.messages)

    hourly = one.messages.reshape(6, 28 * 24, TICKS // 24).sum(axis=2)

    assert (hourly.max(axis=1) > 3 * np.median(hourly, axis=1)).all()
    assert ((one.means >= 500) & (one.means <= 20_000)).all()
