"""Invented log lines as files, read by the importers; and where the real logs are, if they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.imports.clock import StampClock, year_of, zone_of
from engine.imports.counts import Tally
from engine.imports.csvfile import Columns, csv_events
from engine.imports.exim import exim_entries, exim_events
from engine.imports.lines import LogFile
from engine.imports.postfix import SERVICES, postfix_events
from engine.imports.syslog import service_entries
from topics.events import ConnectionEvent

CLOCK_START = "May  1 10:{:02}:{:02} mx "


def shared_folder(name: str) -> Path:
    """A folder of the shared evaluation data; skips the test where it is missing."""
    shared = Path(os.environ.get("TIDEGATE_SHARED") or Path(__file__).parents[3] / "shared") / name
    if not shared.is_dir():
        pytest.skip(f"needs {shared}: set TIDEGATE_SHARED, or put shared beside the clone")
    return shared


class Import:
    """One import run: `events` and `tally` after it."""

    def __init__(self, year: str | None = "2024", zone: str | None = "UTC") -> None:
        self.tally = Tally()
        self.events: list[ConnectionEvent] = []
        self._year = year_of(year) if year else None
        self._zone = zone_of(zone) if zone else None

    def clock(self, log: LogFile) -> StampClock:
        """A clock for one file."""
        return StampClock(log, self._year, self._zone, self.tally)

    def postfix(self, *paths: Path) -> Import:
        """Read Postfix logs."""
        logs = [LogFile(str(path)) for path in paths]
        entries = [service_entries(log, self.clock(log), self.tally, SERVICES) for log in logs]
        self.events = list(postfix_events(entries, self.tally))
        return self

    def exim(self, *paths: Path, mta: str = "") -> Import:
        """Read Exim logs."""
        logs = [LogFile(str(path)) for path in paths]
        entries = [exim_entries(log, self.clock(log), self.tally) for log in logs]
        self.events = list(exim_events(entries, self.tally, mta))
        return self

    def csv(self, path: Path, columns: Columns | None = None, delimiter: str | None = None) -> Import:
        """Read a CSV file."""
        log = LogFile(str(path))
        self.events = list(csv_events(log, self.clock(log), self.tally, columns or Columns(), delimiter))
        return self

    def brief(self) -> list[tuple[str, int, int, str]]:
        """Of each event: ip, messages, recipients, outcome."""
        return [(event.ip, event.messages, event.recipients, event.outcome) for event in self.events]


def stamped(bodies: Iterable[str], program: str = "") -> bytes:
    """Log lines of one second each from 10:00:00 on 1 May, as syslog writes them. A body without a tag gets ``program``."""
    lines = []
    for second, body in enumerate(bodies):
        lines.append(CLOCK_START.format(second // 60, second % 60) + program + body)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def file_of(folder: Path, content: bytes, name: str = "mail.log") -> Path:
    """A file with that content."""
    path = folder / name
    path.write_bytes(content)
    return path
