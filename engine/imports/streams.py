"""Streams of entries and events: several logs merged by time, and events as blocks of NDJSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import Protocol, TypeVar

from engine.imports.counts import ImportCounts
from topics.events import ConnectionEvent, encode_event

BLOCK_EVENTS = 4096


class Timed(Protocol):
    """An object with an event time."""

    @property
    def ts(self) -> int:
        """Return ms since epoch."""


Item = TypeVar("Item", bound=Timed)


def in_time_order(logs: list[Iterator[Item]]) -> Iterator[Item]:
    """Merge logs by time; of equal times, the log named first comes first. Each log keeps its own order."""
    return logs[0] if len(logs) == 1 else merge(*logs, key=attrgetter("ts"))


def ndjson_blocks(events: Iterable[ConnectionEvent], counts: ImportCounts) -> Iterator[bytes]:
    """Yield events as blocks of `BLOCK_EVENTS` whole lines of NDJSON, and count them."""
    lines: list[bytes] = []
    for event in events:
        counts.add(event)
        lines.append(encode_event(event))
        if len(lines) == BLOCK_EVENTS:
            yield b"\n".join(lines) + b"\n"
            lines.clear()
    if lines:
        yield b"\n".join(lines) + b"\n"
