"""Counts of an import for its summary, and the first lines that could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field

from topics.events import ConnectionEvent

EXAMPLES = 3
EXAMPLE_BYTES = 120


@dataclass(slots=True)
class ImportCounts:
    """Counts of one import over all its files."""

    lines: int = 0
    events: dict[str, int] = field(default_factory=dict)  # by outcome
    first_ms: int = -1  # earliest event time, -1 without events
    last_ms: int = -1
    late: int = 0  # events with a time before that of an earlier one
    unreadable: int = 0  # lines that are no log line, or lack a required part
    without_address: int = (
        0  # connections without a usable client address: `unknown[unknown]`, a local socket, a zone id
    )
    without_end: int = 0  # connections without an end in the log; their event is made of the lines present
    without_start: int = 0  # connections that began before the log; their event has the time of their first line
    handed_over: int = 0  # connections that postscreen passed on to smtpd, whose own lines have them
    ambiguous_times: int = 0  # timestamps in the hour that a clock set back shows twice
    skipped_times: int = 0  # timestamps in the hour that a clock set forward never shows
    impossible_days: int = 0  # timestamps on 29 February of a year without one, read as 1 March
    impossible_year: int = 0  # that year
    reinjected: int = 0  # connections by which a content filter brought mail back
    reversed_logs: int = 0  # logs that began with their newest line
    used: int = 0  # lines of events
    ignored: dict[str, int] = field(default_factory=dict)  # lines of no event, by reason
    damaged: list[str] = field(default_factory=list)  # one sentence per file that could not be read to its end
    examples: list[str] = field(default_factory=list)  # of unreadable lines, the first ones

    def add(self, event: ConnectionEvent) -> None:
        """Count an event that is output."""
        self.events[event.outcome] = self.events.get(event.outcome, 0) + 1
        if event.ts < self.last_ms:
            self.late += 1
            self.first_ms = min(self.first_ms, event.ts)
            return
        if self.last_ms < 0:
            self.first_ms = event.ts
        self.last_ms = event.ts

    def ignore(self, reason: str) -> None:
        """Count a line that is of no event."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def set_aside(self, reason: str) -> None:
        """Count a line that was counted as of an event before, and is of none."""
        self.used -= 1
        self.ignore(reason)

    def add_unreadable(self, name: str, line: bytes, reason: str) -> None:
        """Count a line of file `name` that could not be read, and keep the first few as examples."""
        self.unreadable += 1
        if len(self.examples) < EXAMPLES:
            text = line[:EXAMPLE_BYTES].decode("utf-8", "replace")
            printable = "".join(c if c.isprintable() else "·" for c in text)
            self.examples.append(f"{name}: {reason}: {printable}{'…' if len(line) > EXAMPLE_BYTES else ''}")
