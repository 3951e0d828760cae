"""Conditions that need an operator, derived from a worker's status, its decision log and the edges' heartbeats. Pure.

A condition's name is its kind and its subject, the same for every worker and every time, so a receiver can recognise a
repetition. Each partition's owner reports on that partition. Edges and watched networks, which every worker sees, are
reported by the owner of partition 0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

BREAKER, BUDGET, WATCH, LAG, EDGE = "breaker", "budget", "watch", "lag", "edge"
SITE_REPORTER = "0"  # the partition whose owner reports on edges and watched networks
LEAST_MESSAGES = 1_000.0  # of known senders; the deferred share of fewer is not reported


class Condition(NamedTuple):
    """A condition that is true now, with the texts that are sent about it."""

    name: str  # kind and subject, such as "lag 3"
    kind: str  # one of the constants above
    text: str  # sent while it is true
    over_text: str  # sent once it is over


class AlertThresholds(NamedTuple):
    """Values from which on a figure is a condition."""

    lag_s: float
    budget_share: float  # of the budget


class Visibility(NamedTuple):
    """Which conditions this worker can detect."""

    partitions: Collection[str]  # owned
    edges: Collection[str]  # edges that have sent a heartbeat
    is_watched: Callable[[str], bool]  # True for a network whose throttle would be reported

    def covers(self, kind: str, name: str) -> bool:
        """Return True if this worker would detect the condition if it were true."""
        subject = name.partition(" ")[2]
        if kind in (EDGE, WATCH):
            known = subject in self.edges if kind == EDGE else self.is_watched(subject)
            return SITE_REPORTER in self.partitions and known
        return subject in self.partitions


def find_conditions(
    status: Mapping[str, Any], silent: Mapping[str, float], watched: Mapping[str, str], thresholds: AlertThresholds
) -> Iterator[Condition]:
    """Yield the conditions that are true now.

    ``silent``: seconds since the last heartbeat, by edge without one; ``watched``: a sentence for each throttle on a watched
    network, by network.
    """
    for number, partition in status["partitions"].items():
        yield from _partition_conditions(number, partition, thresholds)
    if SITE_REPORTER not in status["partitions"]:
        return
    for edge, seconds in silent.items():
        text = f"edge {edge} sent its last heartbeat {seconds:,.0f} s ago: its mail may flow unthrottled"
        yield Condition(f"edge {edge}", EDGE, text, f"edge {edge} sends heartbeats again, or was stopped properly")
    for network, words in watched.items():
        yield Condition(f"watch {network}", WATCH, f"throttled: {words}", f"released: {network} is no longer throttled")


def _partition_conditions(
    number: str, partition: Mapping[str, Any], thresholds: AlertThresholds
) -> Iterator[Condition]:
    if partition["breaker_tripped_ms"] is not None:
        text = (
            f"partition {number}: the circuit breaker has tripped because throttles hit known senders; "
            "no new throttle is issued while it is open"
        )
        yield Condition(f"breaker {number}", BREAKER, text, f"partition {number}: the circuit breaker has re-armed")
    if partition["lag_s"] > thresholds.lag_s:
        text = f"partition {number} lags by {partition['lag_s']:,.0f} s and {partition['lag']:,} events"
        yield Condition(f"lag {number}", LAG, text, f"partition {number} has caught up")
    established = partition["established"]
    share = thresholds.budget_share * established["budget"]
    if established["messages"] >= LEAST_MESSAGES and established["share"] >= share:
        text = (
            f"partition {number}: {established['share']:.2%} of known senders' mail is deferred, "
            f"{established['share'] / established['budget']:.0%} of the budget of {established['budget']:.2%}"
        )
        over = f"partition {number}: the deferred share of known senders' mail is below the alert threshold again"
        yield Condition(f"budget {number}", BUDGET, text, over)
