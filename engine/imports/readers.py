"""The kinds of logs by name: from open files to one stream of events in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.imports.clock import StampClock
from engine.imports.counts import Tally
from engine.imports.csvfile import Columns, csv_events
from engine.imports.exim import exim_entries, exim_events
from engine.imports.lines import LogFile
from engine.imports.merge import in_time_order
from engine.imports.postfix import SERVICES, postfix_events
from engine.imports.syslog import service_entries
from topics.events import ConnectionEvent


class Reading(NamedTuple):
    """What every importer starts from: the files, a clock for each, and the counts."""

    logs: list[LogFile]
    clocks: list[StampClock]
    tally: Tally

    def pairs(self) -> Iterator[tuple[LogFile, StampClock]]:
        """Each file with its clock."""
        return zip(self.logs, self.clocks, strict=True)


Reader = Callable[[Reading], Iterator[ConnectionEvent]]


def from_postfix(reading: Reading) -> Iterator[ConnectionEvent]:
    """Postfix logs: an event an SMTP connection."""
    entries = [service_entries(log, clock, reading.tally, SERVICES) for log, clock in reading.pairs()]
    return postfix_events(entries, reading.tally)


def from_exim(reading: Reading, mta: str = "") -> Iterator[ConnectionEvent]:
    """Exim main logs. ``mta``: whose log it is, "" for the host in syslog lines."""
    return exim_events([exim_entries(log, clock, reading.tally) for log, clock in reading.pairs()], reading.tally, mta)


def from_csv(
    reading: Reading, columns: Columns | None = None, delimiter: str | None = None
) -> Iterator[ConnectionEvent]:
    """CSV with a header line. ``columns``: what they are called; ``delimiter``: found in the header if None."""
    wanted = columns or Columns(asked=frozenset())
    return in_time_order([csv_events(log, clock, reading.tally, wanted, delimiter) for log, clock in reading.pairs()])


READERS: dict[str, Reader] = {"postfix": from_postfix, "exim": from_exim, "csv": from_csv}
