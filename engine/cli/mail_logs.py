"""Logs of mail servers for commands: options, opening with a progress bar, and the report of an import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from engine.cli.files import progress, size_of
from engine.cli.options import Command
from engine.imports.clock import LogClock, year_of, zone_of
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from engine.imports.readers import LogInput
from topics.errors import OperatorError
from topics.events import ACCEPTED, DEFERRED, REJECTED

COUNT_TEXTS = {  # by the name of the count
    "without_address": "connections without a client address were skipped",
    "without_end": "connections have no end in the log: imported with the lines that it has",
    "without_start": "connections began before the log: imported from their first line in it",
    "handed_over": "connections were passed on by postscreen: counted once, as smtpd's",
    "reinjected": "connections by which a content filter brought mail back were left out: the client's own are counted",
    "reversed_logs": "logs began with their newest line: read from the end",
    "late": "events are earlier than their predecessor: sort the file by time for exact results",
    "ambiguous_times": "timestamps are in an hour that the clock repeated: resolved by the order of lines",
    "skipped_times": "timestamps are in an hour that the clock skipped: is --time-zone correct?",
}


def year_option(command: Command) -> Command:
    """Add ``--year`` as parameter `year: str | None`."""
    text = "Year of each file's first line; mtime: from the file's modification time."
    return click.option("--year", metavar="YYYY", help=text)(command)


def time_zone_option(command: Command) -> Command:
    """Add ``--time-zone`` as parameter `time_zone: str | None`."""
    text = "Zone of timestamps without one: Europe/Berlin, UTC or -07:00."
    return click.option("--time-zone", metavar="ZONE", help=text)(command)


@contextmanager
def open_logs(files: tuple[str, ...], year: str | None, time_zone: str | None) -> Iterator[LogInput]:
    """Open the logs with a clock each, and show a progress bar while they are read."""
    fixed_year = year_of(year) if year else None
    zone = zone_of(time_zone) if time_zone else None
    counts = ImportCounts()
    with progress(None, "import") as bar:
        logs = [LogFile(path, lambda size: bar.advance(bar.task_ids[0], size)) for path in files]
        _refuse_twice(logs)
        bar.update(bar.task_ids[0], total=size_of(list(files)))
        yield LogInput(logs, [LogClock(log, fixed_year, zone, counts) for log in logs], counts)


def _refuse_twice(logs: list[LogFile]) -> None:
    """Raise OperatorError if two logs begin with the same lines, compressed or not: their events would count twice."""
    heads: dict[bytes, str] = {}
    for log in logs:
        head = LogFile(log.path).head() if len(logs) > 1 else b""
        if head.count(b"\n") > 1 and head in heads:
            raise OperatorError(f"{heads[head]} and {log.name} begin with the same lines: give each log once")
        heads[head] = log.name


def report_logs(reading: LogInput, seconds: float, *, explain_lines: bool = False) -> None:
    """Report on standard error what was read, and add the files' damage to the counts."""
    counts = reading.counts
    counts.damaged += [log.damage for log in reading.logs if log.damage]
    if counts.impossible_days:
        counts.damaged.append(
            f"29 February does not exist in {counts.impossible_year}, so --year is wrong: "
            f"{counts.impossible_days:,} timestamps were read as 1 March"
        )
    for line in summary(counts, seconds):
        click.echo(line, err=True)
    if explain_lines or (not counts.events and counts.ignored):
        for line in line_sums(counts):
            click.echo(line, err=True)


def line_sums(counts: ImportCounts) -> Iterator[str]:
    """Yield how the lines were used, one count per line. The counts add up to the number of lines."""
    yield f"{counts.lines:,} lines:"
    yield f"  {counts.used:,} of events"
    yield f"  {counts.unreadable:,} unreadable"
    for reason, count in sorted(counts.ignored.items(), key=lambda item: -item[1]):
        if count:
            yield f"  {count:,} ignored: {reason}"


def summary(counts: ImportCounts, seconds: float) -> Iterator[str]:
    """Yield the counts of an import, one per line."""
    count = sum(counts.events.values())
    if not count:
        yield f"{counts.lines:,} lines read, no event found: is it this kind of log?"
    else:
        outcomes = ", ".join(
            f"{counts.events.get(outcome, 0):,} {outcome}" for outcome in (ACCEPTED, DEFERRED, REJECTED)
        )
        yield f"{counts.lines:,} lines, {count:,} events ({outcomes}), {counts.lines / max(seconds, 0.001):,.0f} lines/s"
        yield f"from {_time(counts.first_ms)} to {_time(counts.last_ms)} UTC"
    yield from (f"{getattr(counts, name):,} {text}" for name, text in COUNT_TEXTS.items() if getattr(counts, name))
    if counts.unreadable:
        yield f"{counts.unreadable:,} lines could not be read, such as:"
        yield from (f"  {example}" for example in counts.examples)
    yield from counts.damaged


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
