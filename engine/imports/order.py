"""Return the lines of a log oldest first, whichever way round the log is.

`journalctl -r` and exports of log stores begin with the newest line. The first timestamps of a log show its direction. A log
that runs backwards is read whole and reversed, up to `MAX_REVERSED_BYTES`; a larger one is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, pairwise

from engine.imports.clock import UNREADABLE, LogClock
from engine.imports.lines import LogFile
from engine.imports.wrappers import plain_lines
from topics.errors import OperatorError

MAX_REVERSED_BYTES = 256 << 20
SAMPLE_LINES = 200
_FORWARD_SHARE = 10


def ordered_lines(log: LogFile, clock: LogClock) -> Iterator[bytes]:
    """Yield the lines of a log without wrappers, oldest first. Raise OperatorError for a backward log that is too large."""
    lines = plain_lines(log.lines())
    first = list(islice(lines, SAMPLE_LINES))
    if not _runs_backwards(first, clock.scratch()):
        yield from first
        yield from lines
        return
    kept: list[bytes] = []
    size = 0
    for line in chain(first, lines):
        size += len(line) + 1
        if size > MAX_REVERSED_BYTES:
            raise OperatorError(f"{log.name} begins with its newest line and is too large to sort: reverse it with tac")
        kept.append(line)
    clock.counts.reversed_logs += 1
    yield from reversed(kept)


def _runs_backwards(lines: list[bytes], clock: LogClock) -> bool:
    """Return True if nearly all timestamps that differ from their predecessor are earlier."""
    times = [ts for ts in map(clock.read_own_time, lines) if ts != UNREADABLE]
    back = sum(after < before for before, after in pairwise(times))
    forward = sum(after > before for before, after in pairwise(times))
    return back > forward * _FORWARD_SHARE
