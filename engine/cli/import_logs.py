"""`tidegate import`: logs of Postfix and Exim, and CSV, as connection events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.files import output_file, progress, size_of
from engine.cli.options import settings_from
from engine.imports.clock import StampClock, year_of, zone_of
from engine.imports.counts import Tally
from engine.imports.csvfile import Columns
from engine.imports.lines import STANDARD_STREAM, LogFile
from engine.imports.ndjson import text_blocks
from engine.imports.readers import Reader, Reading, from_csv, from_exim, from_postfix
from topics.errors import OperatorError
from topics.events import ACCEPTED, DEFERRED, REJECTED

Command = TypeVar("Command", bound=Callable[..., Any])

FIELDS = ("ts", "ip", "mta", "messages", "recipients", "outcome")
NOTES = {
    "without_address": "connections without a client address left out",
    "unfinished": "connections without an end in the log: taken as far as they go",
    "headless": "connections that began before the log: taken from their first line",
    "handed_over": "connections that postscreen passed on: counted once, as smtpd's",
    "late": "events earlier than one before them: sort them by time for exact results",
    "ambiguous_times": "time stamps in an hour that the clock ran through twice: read in the order of the lines",
    "skipped_times": "time stamps in an hour that the clock skipped: is --time-zone right?",
}


def input_options(command: Command) -> Command:
    """Adds FILE..., --time-zone, --out and --bootstrap."""
    for decorate in (
        click.option("--bootstrap", metavar="HOST:PORT", help="Send the events to this Kafka instead of writing them."),
        click.option(
            "--out", metavar="FILE", help="Write here, gzipped if it ends in .gz.  [default: standard output]"
        ),
        click.option("--time-zone", metavar="ZONE", help="Zone of stamps without one: Europe/Berlin, UTC or -07:00."),
        click.argument("files", nargs=-1, required=True, metavar="FILE..."),
    ):
        command = decorate(command)
    return command


def year_option(command: Command) -> Command:
    """Adds --year."""
    text = "Year of each file's first line, or mtime: by the file's modification time."
    return click.option("--year", metavar="YYYY", help=text)(command)


@click.group(name="import")
def import_() -> None:
    """Turn logs of mail servers into connection events, to NDJSON or straight into Kafka.

    Plain, .gz, .bz2 and .xz files, or - for standard input; several files are merged by time. Lines that can't be read
    are counted and shown, never fatal. Exit status: 0, or 1 if a file was damaged or nothing was found, or 2 for misuse.

    \b
    Example:
      tidegate import postfix /var/log/mail.log --year 2025 --time-zone Europe/Berlin --out mail.ndjson.gz
      tidegate replay mail.ndjson.gz --decisions -
    """


@import_.command()
@input_options
@year_option
@click.pass_context
def postfix(ctx: click.Context, /, files: tuple[str, ...], **options: Any) -> None:
    """Postfix logs: one event an SMTP connection.

    \b
    Example:
      tidegate import postfix mail.log mail.log.1.gz --year mtime --time-zone Europe/Berlin --out mail.ndjson.gz
    """
    run_import(ctx, files, options, from_postfix)


@import_.command()
@input_options
@year_option
@click.option("--mta", default="", metavar="NAME", help="Whose log it is.  [default: the host in syslog lines, if any]")
@click.pass_context
def exim(ctx: click.Context, /, files: tuple[str, ...], mta: str, **options: Any) -> None:
    """Exim main logs: one event a connection if the log tells them apart, else one a message.

    \b
    Example:
      tidegate import exim /var/log/exim4/mainlog --time-zone Europe/Berlin --mta mx1 --out mail.ndjson.gz
    """
    run_import(ctx, files, options, partial(from_exim, mta=mta))


def column_options(command: Command) -> Command:
    """Adds an option for each field's column name."""
    for field in reversed(FIELDS):
        text = f"Header of the column with {field}.  [default: {field}]"
        command = click.option(f"--{field}-column", metavar="NAME", help=text)(command)
    return command


@import_.command()
@input_options
@column_options
@click.option("--delimiter", metavar="CHARACTER", help="What separates columns.  [default: found in the header]")
@click.pass_context
def csv(ctx: click.Context, /, files: tuple[str, ...], delimiter: str | None, **options: Any) -> None:
    """CSV with a header line: an event a row.

    ts is ISO 8601 or a number since epoch (s, ms, us, ns); outcome is accepted, deferred, rejected or a reply code.

    \b
    Example:
      tidegate import csv connections.csv --ts-column time --ip-column client --out mail.ndjson.gz
    """
    names = {field: name for field in FIELDS if (name := options.pop(f"{field}_column"))}
    columns = Columns(**names, asked=frozenset(names))
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise OperatorError(f"delimiter {delimiter!r}: give one character")
    run_import(ctx, files, options, partial(from_csv, columns=columns, delimiter=delimiter))


def run_import(ctx: click.Context, files: tuple[str, ...], options: dict[str, Any], reader: Reader) -> None:
    """Read the files, deliver the events, say on standard error what was met; the exit status is 1 if something lacks."""
    out, bootstrap = options["out"], options["bootstrap"]
    check_output(files, out, bootstrap)
    started_s = time.monotonic()
    with opened(files, options) as reading:
        blocks = text_blocks(reader(reading), reading.tally)
        if bootstrap:
            _send(ctx, bootstrap, blocks, reading.tally)
        else:
            _write(out or STANDARD_STREAM, blocks)
    tell(reading, time.monotonic() - started_s)
    ctx.exit(1 if reading.tally.damaged or not reading.tally.events else 0)


@contextmanager
def opened(files: tuple[str, ...], options: dict[str, Any]) -> Iterator[Reading]:
    """The logs with their clocks (``options``: year, time_zone), and a bar while they are read."""
    year = year_of(options["year"]) if options.get("year") else None
    zone = zone_of(options["time_zone"]) if options["time_zone"] else None
    tally = Tally()
    with progress(None, "import") as bar:
        logs = [LogFile(path, lambda octets: bar.advance(bar.task_ids[0], octets)) for path in files]
        bar.update(bar.task_ids[0], total=size_of(list(files)))
        yield Reading(logs, [StampClock(log, year, zone, tally) for log in logs], tally)


def tell(reading: Reading, seconds: float) -> None:
    """Say on standard error what was met."""
    reading.tally.damaged += [log.damage for log in reading.logs if log.damage]
    for line in summary(reading.tally, seconds):
        click.echo(line, err=True)


def check_output(files: tuple[str, ...], out: str | None, bootstrap: str | None) -> None:
    """OperatorError when the output is not one place, or one of the inputs."""
    if out and bootstrap:
        raise OperatorError("--out and --bootstrap are both given: choose where the events go")
    if files.count(STANDARD_STREAM) > 1:
        raise OperatorError("standard input (-) is named twice: it can be read once")
    if out and out != STANDARD_STREAM and any(_same_file(path, out) for path in files):
        raise OperatorError(f"{out} is an input and would be overwritten: give another --out")


def _same_file(path: str, out: str) -> bool:
    return path != STANDARD_STREAM and Path(path).exists() and Path(out).exists() and Path(path).samefile(out)


def _write(name: str, blocks: Iterator[bytes]) -> None:
    """The file is opened when there is something to write, or nothing more to come."""
    first = next(blocks, b"")
    with output_file(name) as out:
        out.write(first)
        out.writelines(blocks)


def _send(ctx: click.Context, bootstrap: str, blocks: Iterator[bytes], tally: Tally) -> None:
    from engine.imports.kafka_sink import KafkaSink
    from engine.service.worker import check_topics, contracted

    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    check_topics(settings, create=False)
    asyncio.run(KafkaSink(contracted(settings)[0], settings.kafka.client_options()).send(blocks, tally))


def _moment(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def summary(tally: Tally, seconds: float) -> Iterator[str]:
    """What an import met, a line a thing."""
    count = sum(tally.events.values())
    if not count:
        yield f"{tally.lines:,} lines read, no event found: is it this kind of log?"
    else:
        outcomes = ", ".join(
            f"{tally.events.get(outcome, 0):,} {outcome}" for outcome in (ACCEPTED, DEFERRED, REJECTED)
        )
        yield f"{tally.lines:,} lines, {count:,} events ({outcomes}), {tally.lines / max(seconds, 0.001):,.0f} lines/s"
        yield f"from {_moment(tally.first_ms)} to {_moment(tally.last_ms)} UTC"
    yield from (f"{getattr(tally, name):,} {text}" for name, text in NOTES.items() if getattr(tally, name))
    if tally.unreadable:
        yield f"{tally.unreadable:,} lines could not be read, such as:"
        yield from (f"  {example}" for example in tally.examples)
    yield from tally.damaged
