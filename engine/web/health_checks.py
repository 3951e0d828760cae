"""What is not well with a worker, in sentences that say what to do: for health checks, `tidegate status` and the page."""

from __future__ import annotations

from typing import Any

LAG_S = 60.0
CHECKPOINT_AGE_S = 120.0
FILL = 0.99
BUDGET_SHARE = 1.0


def complaints_of(status: dict[str, Any]) -> list[str]:
    """A sentence for each thing; none if all is well. ``status``: of `engine.worker.status.status_of`."""
    busy = status["partitions"] or status["restoring"] or status["standbys"]
    found = (
        []
        if busy
        else ["it has no partition and is nobody's standby: does it still join, or are there workers enough?"]
    )
    for number, restoring in status["restoring"].items():
        found.append(f"partition {number} is being restored, {restoring['share']:.0%} of its changelog is read")
    for number, partition in status["partitions"].items():
        found += [f"partition {number} {said}" for said in _of_partition(partition, status.get("shadow", ""))]
    return found


def _of_partition(partition: dict[str, Any], shadow: str) -> list[str]:
    """``shadow``: what of the decisions is in one, in words."""
    found, deferred = [], "has deferred, or would have but for its shadow," if shadow else "has deferred"
    if partition["guard_tripped_ms"] is not None:
        found.append(
            "has its breaker tripped: throttles had begun to hit known senders, and none are made until that is over"
        )
    if partition["lag_s"] > LAG_S:
        found.append(f"is {partition['lag_s']:,.0f} s and {partition['lag']:,} events behind: add workers")
    if partition["checkpoint_age_s"] > CHECKPOINT_AGE_S:
        found.append(
            f"had its last checkpoint {partition['checkpoint_age_s']:,.0f} s ago: does the cluster take writes?"
        )
    if partition["keys"] >= FILL * partition["capacity"]:
        found.append("has a full table: raise worker.rows_per_partition")
    established = partition["established"]
    if established["share"] > BUDGET_SHARE * established["budget"]:
        found.append(
            f"{deferred} {established['share']:.2%} of known senders' mail, more than the {established['budget']:.2%} of its "
            "budget: lower model.sensitivity"
        )
    return found
