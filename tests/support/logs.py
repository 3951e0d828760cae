"""Invented log lines as files, read by the importers; and the folder of the real logs, if present."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.imports.clock import LogClock, year_of, zone_of
from engine.imports.counts import ImportCounts
from engine.imports.csvfile import CsvColumns, csv_events
from engine.imports.exim import exim_entries, exim_events
from engine.imports.lines import LogFile
from engine.imports.postfix import SERVICES, postfix_events
from engine.imports.syslog import service_entries
from topics.events import ConnectionEvent

CLOCK_START = "May  1 10:{:02}:{:02} mx "


def shared_folder(name: str) -> Path:
    """Return a folder of the shared evaluation data; skip the test if it is missing."""
    shared = Path(os.environ.get("TIDEGATE_SHARED") or Path(__file__).parents[3] / "shared") / name
    if not shared.is_dir():
        pytest.skip(f"needs {shared}: set TIDEGATE_SHARED, or put shared next to the clone")
    return shared


class Import:
    """One import, with its `events` and `counts`."""

    def __init__(self, year: str | None = "2024", zone: str | None = "UTC") -> None:
        self.counts = ImportCounts()
        self.events: list[ConnectionEvent] = []
        self._year = year_of(year) if year else None
        self._zone = zone_of(zone) if zone else None

    def clock(self, log: LogFile) -> LogClock:
        """Return a clock for one file."""
        return LogClock(log, self._year, self._zone, self.counts)

    def postfix(self, *paths: Path) -> Import:
        """Read Postfix logs."""
        logs = [LogFile(str(path)) for path in paths]
        entries = [service_entries(log, self.clock(log), self.counts, SERVICES) for log in logs]
        self.events = list(postfix_events(entries, self.counts))
        return self

    def exim(self, *paths: Path, mta: str = "") -> Import:
        """Read Exim logs."""
        logs = [LogFile(str(path)) for path in paths]
        entries = [exim_entries(log, self.clock(log), self.counts) for log in logs]
        self.events = list(exim_events(entries, self.counts, mta))
        return self

    def csv(self, path: Path, columns: CsvColumns | None = None, delimiter: str | None = None) -> Import:
        """Read a CSV file."""
        log = LogFile(str(path))
        self.events = list(csv_events(log, self.clock(log), self.counts, columns or CsvColumns(), delimiter))
        return self

    def brief(self) -> list[tuple[str, int, int, str]]:
        """Return ip, messages, recipients, outcome of each event."""
        return [(event.ip, event.messages, event.recipients, event.outcome) for event in self.events]


def syslog_lines(bodies: Iterable[str], program: str = "") -> bytes:
    """Return syslog lines one second apart from 10:00:00 on 1 May. A body without a tag gets `program`."""
    lines = []
    for second, body in enumerate(bodies):
        lines.append(CLOCK_START.format(second // 60, second % 60) + program + body)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def file_of(folder: Path, content: bytes, name: str = "mail.log") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content)
    return path
