"""Several logs as one: their entries or events by time. Each log keeps its own order, as far as it has one."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from operator import attrgetter
from typing import Protocol, TypeVar


class Timed(Protocol):
    """Anything with an event time, ms since epoch."""

    @property
    def ts(self) -> int:
        """Ms since epoch."""


Item = TypeVar("Item", bound=Timed)


def in_time_order(logs: list[Iterator[Item]]) -> Iterator[Item]:
    """All items, the earliest first; of equal times, those of the log named first."""
    return logs[0] if len(logs) == 1 else merge(*logs, key=attrgetter("ts"))
