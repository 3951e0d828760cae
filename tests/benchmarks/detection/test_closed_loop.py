"""The closed loop, small: promised mail is delivered, none is lost, and a broken promise is found."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.detection import retry_model
from benchmarks.detection.closed_loop import (
    BOUND_MIN,
    KEPT,
    PAGE,
    PART,
    PROMISED,
    SCENARIOS,
    broken_promises,
    row,
    simulate,
    text,
)
from benchmarks.detection.retry_model import DAY_MS, HOUR_MS, MINUTE_MS, Loop, Schedule, Sender
from benchmarks.harness import results
from engine.config.load import load_settings
from topics.keys import key_of

SETTINGS = load_settings(
    None, {}, {"topics.partitions": 1, "worker.rows_per_partition": 1024, "model.learning_days": 0}
)
HOSTILE = next(scenario for scenario in SCENARIOS if "×30" in scenario.name)


@pytest.mark.parametrize("schedule", PROMISED.schedules.values(), ids=PROMISED.schedules)
def test_hour_at_three_times_the_usual_is_delivered_within_the_bound(schedule: Schedule) -> None:
    figures = row(simulate(PROMISED, schedule, 6, seed=7))

    assert figures["delivered"] == 1.0
    assert figures["longest_min"] <= BOUND_MIN
    assert figures["messages"] > 500


def test_burst_is_deferred_and_delivered_in_a_damped_loop() -> None:
    figures = row(simulate(HOSTILE, retry_model.postfix, 4, seed=7))

    assert figures["at_once"] < 0.9
    assert figures["delivered"] == 1.0
    assert figures["echoes"]
    assert figures["damped"]


def test_retries_counted_as_new_mail_cost_more() -> None:
    right, blind = (row(simulate(HOSTILE, retry_model.postfix, 4, 7, retries_count=count)) for count in (False, True))

    assert blind["mean_min"] > 1.2 * right["mean_min"] > 0


def test_every_message_is_delivered_or_given_up_once() -> None:
    sent = [DAY_MS + i * 1000 for i in range(300)]
    senders = [Sender(key_of(f"192.0.2.{i}"), sent, sent[-1], schedule) for i, schedule in enumerate(
        (retry_model.postfix, retry_model.once, retry_model.insisting)
    )]  # fmt: skip

    fates = Loop(SETTINGS).run(senders)

    assert [len(fate.delays_ms) + fate.given_up for fate in fates] == [300] * 3
    assert [fate.waiting for fate in fates] == [0] * 3
    assert (fates[0].given_up, fates[1].given_up > 100) == (0, True)
    assert fates[1].attempts == 300 < fates[2].attempts


def test_same_seed_gives_the_same_fates() -> None:
    one, again, other = (simulate(PROMISED, retry_model.exim, 2, seed) for seed in (3, 3, 4))

    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [
        (retry_model.postfix, [5, 10, 20, 40, 80, 150, 220]),
        (retry_model.exim, [15, 30, 45, 60, 75, 90, 105, 120, 180, 270, 405]),
        (retry_model.half_hourly, [30, 60, 90]),
        (retry_model.insisting, [5, 10, 15]),
    ],
)
def test_schedule_follows_the_program(schedule: Schedule, minutes: list[int]) -> None:
    age_ms = 0
    found: list[int] = []
    while len(found) < len(minutes):
        age_ms += schedule(age_ms) or 0
        found.append(age_ms // MINUTE_MS)
    assert found == minutes
    assert schedule(6 * DAY_MS) is None
    assert retry_model.once(HOUR_MS) is None


def test_broken_promise_is_named() -> None:
    right = {"scenario": PROMISED.name, "retries": "postfix", "longest_min": 0.0, "delivered": 1.0, "damped": True}
    assert broken_promises([right]) == []
    for wrong in ({"longest_min": BOUND_MIN + 1}, {"delivered": 0.99}, {"damped": False}):
        assert len(broken_promises([{**right, **wrong}])) == 1


def test_page_has_the_latest_result() -> None:
    kept = results.latest(KEPT)
    assert kept
    assert PART.split(PAGE.read_text(encoding="utf-8"))[1] == text(kept["rows"]), "run `make closed-loop`"
    assert broken_promises(kept["rows"]) == []
    assert Counter(line["scenario"] for line in kept["rows"])[PROMISED.name] == len(PROMISED.schedules)
