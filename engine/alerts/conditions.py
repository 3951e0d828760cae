"""What an operator wants to be told of, found in a worker's status and on its board. Pure: a name for each, and a sentence.

Names, a kind and what it is of, are the same wherever and whenever a condition is found, so that a receiver can tell a
repetition. Of partitions each owner speaks; of edges and watched networks, which every worker sees, only the owner of
partition 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

BREAKER, BUDGET, WATCH, LAG, EDGE = "breaker", "budget", "watch", "lag", "edge"
SPOKESMAN = "0"
LEAST_MESSAGES = 1_000.0  # of known senders, before their share says anything


class Condition(NamedTuple):
    """``name``: which one, and of what; ``kind``: one of those above; ``over``: what is said when it has ended."""

    name: str
    kind: str
    said: str
    over: str


class Limits(NamedTuple):
    """From when on a figure is one: ``lag_s``, and ``budget_share`` of the budget."""

    lag_s: float
    budget_share: float


class Sight(NamedTuple):
    """What a worker can speak of. ``partitions``: those it has; ``edges``: those it has heard; ``watched``: whether it would
    know of a throttle on a network."""

    partitions: Collection[str]
    edges: Collection[str]
    watched: Callable[[str], bool]

    def covers(self, kind: str, name: str) -> bool:
        """Whether the condition would be found here if it held."""
        of = name.partition(" ")[2]
        if kind in (EDGE, WATCH):
            known = of in self.edges if kind == EDGE else self.watched(of)
            return SPOKESMAN in self.partitions and known
        return of in self.partitions


def conditions(
    status: Mapping[str, Any], silent: Mapping[str, float], watched: Mapping[str, str], limits: Limits
) -> Iterator[Condition]:
    """What holds now. ``silent``: seconds since each missed edge was heard; ``watched``: throttles on watched networks, as a
    sentence by network."""
    for number, partition in status["partitions"].items():
        yield from _of_partition(number, partition, limits)
    if SPOKESMAN not in status["partitions"]:
        return
    for edge, seconds in silent.items():
        said = f"edge {edge} was last heard {seconds:,.0f} s ago: its mail may flow unthrottled"
        yield Condition(f"edge {edge}", EDGE, said, f"edge {edge} is heard again, or has said goodbye")
    for network, words in watched.items():
        yield Condition(f"watch {network}", WATCH, f"throttled: {words}", f"released: {network} is throttled no more")


def _of_partition(number: str, partition: Mapping[str, Any], limits: Limits) -> Iterator[Condition]:
    if partition["guard_tripped_ms"] is not None:
        said = f"partition {number}: the breaker has tripped, throttles had begun to hit known senders; none are made meanwhile"
        yield Condition(f"breaker {number}", BREAKER, said, f"partition {number}: the breaker is armed again")
    if partition["lag_s"] > limits.lag_s:
        said = f"partition {number} is {partition['lag_s']:,.0f} s and {partition['lag']:,} events behind"
        yield Condition(f"lag {number}", LAG, said, f"partition {number} has caught up")
    established = partition["established"]
    wanted = limits.budget_share * established["budget"]
    if established["messages"] >= LEAST_MESSAGES and established["share"] >= wanted:
        said = (
            f"partition {number}: {established['share']:.2%} of known senders' mail is deferred, "
            f"{established['share'] / established['budget']:.0%} of the budget of {established['budget']:.2%}"
        )
        over = f"partition {number}: the share of known senders' mail that is deferred is below that again"
        yield Condition(f"budget {number}", BUDGET, said, over)
