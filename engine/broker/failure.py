"""Why a broker stopped, in one line: the last word of its log that says so, and what to do about it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

# What a line of Kafka's log or of Java's output looks like -> what the operator can do.
_ADVICE = (
    ("Address already in use", "choose another port (local.port), or 0 for a free one"),
    ("No space left on device", "free some space there, then start again"),
    ("Permission denied", "give this user the right to write there, or choose another folder"),
    ("Read-only file system", "choose another folder"),
    ("Too many open files", "raise the limit (ulimit -n), then start again"),
    ("OutOfMemoryError", "raise local.heap_mb"),
    ("insufficient memory", "it needs about 300 MB over its heap (local.heap_mb): leave it that much"),
    ("metadata.version", "the data is of a newer Kafka: use that one, or choose another folder"),
)
_SPEAKS = re.compile(r"( (ERROR|FATAL) )|Exception|Error\b|Caused by|insufficient memory|Aborting")
_TAIL_OCTETS = 256 << 10
FULL_OCTETS = 1 << 20
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ")


def cause(broker_log: Path, console: Path, begin_octets: int) -> str:
    """Why the broker whose log began at ``begin_octets`` of ``broker_log`` has stopped, and what to do."""
    if shutil.disk_usage(broker_log.parent).free < FULL_OCTETS:  # the log may have found no room to say so
        why = f"no space left in {broker_log.parents[1]}: free some, then start again"
    else:
        why = last_word(_tail(broker_log, begin_octets) + _tail(console, 0))
    return f"{why} (all of it: {broker_log})"


def last_word(lines: Sequence[str]) -> str:
    """The line among a Java program's ``lines`` that says why it failed, and what to do about it where that is known."""
    for sign, advice in _ADVICE:
        for line in lines:
            if sign in line:
                return f"{_short(line)}: {advice}"
    speaking = [line for line in lines if _SPEAKS.search(line) and not line.startswith("\tat ")] or lines[-1:]
    return _short(speaking[-1]) if speaking else "it said nothing"


def log_size(broker_log: Path) -> int:
    """The log's size in octets, 0 if there is none."""
    return broker_log.stat().st_size if broker_log.exists() else 0


def _tail(path: Path, begin_octets: int) -> list[str]:
    """The last lines of a file, none from before ``begin_octets`` (all when it was rotated since)."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size_octets = path.stat().st_size
        begin_octets = begin_octets if begin_octets <= size_octets else 0
        file.seek(max(begin_octets, size_octets - _TAIL_OCTETS))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _short(line: str) -> str:
    return _STAMP.sub("", line.strip())[:300]
