"""The kinds of logs by name: from open files to one stream of events in time order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.imports.clock import LogClock
from engine.imports.counts import ImportCounts
from engine.imports.csvfile import CsvColumns, csv_events
from engine.imports.exim import exim_entries, exim_events
from engine.imports.lines import LogFile
from engine.imports.postfix import SERVICES, postfix_events
from engine.imports.streams import in_time_order
from engine.imports.syslog import service_entries
from topics.events import ConnectionEvent


class LogInput(NamedTuple):
    """The input of an importer: files, a clock for each, and the counts."""

    logs: list[LogFile]
    clocks: list[LogClock]
    counts: ImportCounts

    def pairs(self) -> Iterator[tuple[LogFile, LogClock]]:
        """Return each file with its clock."""
        return zip(self.logs, self.clocks, strict=True)


Reader = Callable[[LogInput], Iterator[ConnectionEvent]]


def from_postfix(source: LogInput) -> Iterator[ConnectionEvent]:
    """Return the events of Postfix logs, one per SMTP connection."""
    entries = [service_entries(log, clock, source.counts, SERVICES) for log, clock in source.pairs()]
    return postfix_events(entries, source.counts)


def from_exim(source: LogInput, mta: str = "") -> Iterator[ConnectionEvent]:
    """Return the events of Exim main logs. `mta`: name of the mail server, "" for the host in syslog lines."""
    return exim_events([exim_entries(log, clock, source.counts) for log, clock in source.pairs()], source.counts, mta)


def from_csv(
    source: LogInput, columns: CsvColumns | None = None, delimiter: str | None = None
) -> Iterator[ConnectionEvent]:
    """Return the events of CSV files with a header line. `delimiter`: detected in the header if None."""
    names = columns or CsvColumns(asked=frozenset())
    return in_time_order([csv_events(log, clock, source.counts, names, delimiter) for log, clock in source.pairs()])


READERS: dict[str, Reader] = {"postfix": from_postfix, "exim": from_exim, "csv": from_csv}
