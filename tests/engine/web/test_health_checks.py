"""Each problem of a worker is a sentence with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from engine.web.health_checks import find_problems


def healthy_status() -> dict[str, Any]:
    partition = {
        "breaker_tripped_ms": None,
        "lag": 0,
        "lag_s": 0.0,
        "checkpoint_age_s": 1.0,
        "keys": 10,
        "capacity": 100,
    }
    established = {"messages": 1e6, "deferred": 100.0, "share": 0.0001, "budget": 0.005}
    return {"partitions": {"0": {**partition, "established": established}}, "restoring": {}, "standbys": {}}


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"lag_s": 61.0, "lag": 7}, "partition 0 lags by 61 s and 7 events"),
        ({"checkpoint_age_s": 600.0}, "partition 0 had its last checkpoint 600 s ago"),
        ({"keys": 99}, "partition 0 has a full table"),
        ({"breaker_tripped_ms": 1}, "partition 0 has its circuit breaker open"),
        ({"established": {"share": 0.006, "budget": 0.005}}, "partition 0 deferred 0.60% of known senders' mail"),
    ],
)
def test_each_problem_is_described(change: dict[str, Any], start: str) -> None:
    status = healthy_status()
    assert find_problems(status) == []

    status["partitions"]["0"].update(change)

    (problem,) = find_problems(status)
    assert problem.startswith(start)


def test_worker_that_is_about_to_end_has_that_problem() -> None:
    assert find_problems({**healthy_status(), "ending": "topic x has 6 partitions"}) == [
        "the worker is about to end: topic x has 6 partitions"
    ]


def test_worker_without_partition_and_standby_has_a_problem() -> None:
    idle: dict[str, Any] = {"partitions": {}, "restoring": {}, "standbys": {}}

    assert find_problems(idle)[0].startswith("the worker owns no partition")
    assert find_problems({**idle, "standbys": {"0": {}}}) == []
    assert find_problems({**idle, "restoring": {"3": {"share": 0.25}}}) == [
        "partition 3 is being restored, 25% of its changelog is read"
    ]
