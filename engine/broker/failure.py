"""The reason why a broker stopped, in one line from its log, and what to do about it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

# Text in a line of Kafka's log or of Java's output -> advice.
_ADVICE = (
    ("Address already in use", "choose another port (local.port), or 0 for a free one"),
    ("No space left on device", "free some space there, then start again"),
    ("Permission denied", "give this user write permission there, or choose another folder"),
    ("Read-only file system", "choose another folder"),
    ("Too many open files", "raise the limit (ulimit -n), then start again"),
    ("OutOfMemoryError", "raise local.heap_mb"),
    ("insufficient memory", "the broker needs about 300 MB more than its heap (local.heap_mb): free that much"),
    ("metadata.version", "the data was written by a newer Kafka: use that version, or choose another folder"),
)
_REPORT = re.compile(r"( (ERROR|FATAL) )|Exception|Error\b|Caused by|insufficient memory|Aborting")
_TAIL_BYTES = 256 << 10
FULL_BYTES = 1 << 20
_TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ")


def stop_reason(broker_log: Path, console: Path, start_bytes: int) -> str:
    """Return why the broker has stopped and what to do. Its log begins at byte `start_bytes` of `broker_log`."""
    if shutil.disk_usage(broker_log.parent).free < FULL_BYTES:  # the log may have had no space to report it
        reason = f"no space left in {broker_log.parents[1]}: free some, then start again"
    else:
        reason = reason_in(_tail(broker_log, start_bytes) + _tail(console, 0))
    return f"{reason} (full log: {broker_log})"


def reason_in(lines: Sequence[str]) -> str:
    """Return the line of a Java program's output that reports its failure, with advice if there is any."""
    for text, advice in _ADVICE:
        for line in lines:
            if text in line:
                return f"{_short(line)}: {advice}"
    reports = [line for line in lines if _REPORT.search(line) and not line.startswith("\tat ")] or lines[-1:]
    return _short(reports[-1]) if reports else "it logged nothing"


def log_size(broker_log: Path) -> int:
    """Return the log's size in bytes, 0 if there is none."""
    return broker_log.stat().st_size if broker_log.exists() else 0


def _tail(path: Path, start_bytes: int) -> list[str]:
    """Return the last lines of a file after byte `start_bytes`, or of all of it if it was rotated since."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        start_bytes = start_bytes if start_bytes <= size_bytes else 0
        file.seek(max(start_bytes, size_bytes - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _short(line: str) -> str:
    return _TIMESTAMP.sub("", line.strip())[:300]
