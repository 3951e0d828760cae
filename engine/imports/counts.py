"""What an import met: counts for the summary, and the first lines that it could not read."""

from __future__ import annotations

from dataclasses import dataclass, field

from topics.events import ConnectionEvent

EXAMPLES = 3
_SHOWN = 120


@dataclass(slots=True)
class Tally:
    """Counts of one import run, over all its files."""

    lines: int = 0
    events: dict[str, int] = field(default_factory=dict)
    """Events by outcome."""
    first_ms: int = -1
    """Earliest event time; -1 if there is no event."""
    last_ms: int = -1
    late: int = 0
    """Events whose time is before one that was given out already."""
    unreadable: int = 0
    """Lines that are no log line, or lack what their kind of line has."""
    without_address: int = 0
    """Connections whose client has no usable address: ``unknown[unknown]``, a local socket, a zone id."""
    unfinished: int = 0
    """Connections without an end in the log: their event is made of what was seen."""
    headless: int = 0
    """Connections that began before the log: their event has the time of the first line seen."""
    handed_over: int = 0
    """Connections that postscreen passed on to smtpd, which has them in its own lines."""
    ambiguous_times: int = 0
    """Stamps in the hour that a clock put back runs through twice."""
    skipped_times: int = 0
    """Stamps in the hour that a clock put forward never shows."""
    damaged: list[str] = field(default_factory=list)
    """One sentence for each file that could not be read to its end."""
    examples: list[str] = field(default_factory=list)

    def note(self, event: ConnectionEvent) -> None:
        """Count an event that is given out."""
        self.events[event.outcome] = self.events.get(event.outcome, 0) + 1
        if event.ts < self.last_ms:
            self.late += 1
            self.first_ms = min(self.first_ms, event.ts)
            return
        if self.last_ms < 0:
            self.first_ms = event.ts
        self.last_ms = event.ts

    def refuse(self, name: str, line: bytes, reason: str) -> None:
        """Count a line that could not be read; the first few are kept as examples."""
        self.unreadable += 1
        if len(self.examples) < EXAMPLES:
            text = line[:_SHOWN].decode("utf-8", "replace")
            shown = "".join(c if c.isprintable() else "·" for c in text)
            self.examples.append(f"{name}: {reason}: {shown}{'…' if len(line) > _SHOWN else ''}")
