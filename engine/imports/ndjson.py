"""Imported events as blocks of NDJSON text, counted as they go out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.imports.counts import Tally
from topics.events import ConnectionEvent, encode_event

BLOCK_EVENTS = 4096


def text_blocks(events: Iterable[ConnectionEvent], tally: Tally) -> Iterator[bytes]:
    """The events as NDJSON, some thousand whole lines at a time."""
    lines: list[bytes] = []
    for event in events:
        tally.note(event)
        lines.append(encode_event(event))
        if len(lines) == BLOCK_EVENTS:
            yield b"\n".join(lines) + b"\n"
            lines.clear()
    if lines:
        yield b"\n".join(lines) + b"\n"
