"""Health checks of a worker: one sentence with a remedy for each problem, for /health, `tidegate status` and the page."""

from __future__ import annotations

from typing import Any

MAX_LAG_S = 60.0
MAX_CHECKPOINT_AGE_S = 120.0
MAX_FILL = 0.99
MAX_BUDGET_SHARE = 1.0


def find_problems(status: dict[str, Any]) -> list[str]:
    """Return a sentence for each problem in a status of `engine.worker.status.status_of`."""
    busy = status["partitions"] or status["restoring"] or status["standbys"]
    problems = (
        []
        if busy
        else [
            "the worker owns no partition and is no standby: is it still joining, or are there more workers than needed?"
        ]
    )
    if status.get("ending"):
        problems.append(f"the worker is about to end: {status['ending']}")
    for number, restoring in status["restoring"].items():
        problems.append(f"partition {number} is being restored, {restoring['share']:.0%} of its changelog is read")
    for number, partition in status["partitions"].items():
        problems += [f"partition {number} {text}" for text in _partition_problems(partition, status.get("shadow", ""))]
    return problems


def _partition_problems(partition: dict[str, Any], shadow: str) -> list[str]:
    """``shadow``: a description of the decisions in shadow mode, "" if there are none."""
    problems, deferred = [], "deferred, or would have deferred outside shadow mode," if shadow else "deferred"
    if partition["breaker_tripped_ms"] is not None:
        problems.append(
            "has its circuit breaker open: throttles hit known senders, and no new throttle is issued until it re-arms"
        )
    if partition["lag_s"] > MAX_LAG_S:
        problems.append(f"lags by {partition['lag_s']:,.0f} s and {partition['lag']:,} events: add workers")
    if partition["checkpoint_age_s"] > MAX_CHECKPOINT_AGE_S:
        problems.append(
            f"had its last checkpoint {partition['checkpoint_age_s']:,.0f} s ago: does the cluster accept writes?"
        )
    if partition["keys"] >= MAX_FILL * partition["capacity"]:
        problems.append("has a full table: raise worker.rows_per_partition")
    established = partition["established"]
    if established["share"] > MAX_BUDGET_SHARE * established["budget"]:
        problems.append(
            f"{deferred} {established['share']:.2%} of known senders' mail, more than the {established['budget']:.2%} of "
            "its budget: lower model.sensitivity"
        )
    return problems
