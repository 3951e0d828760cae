"""`tidegate import`: convert logs of Postfix and Exim, and CSV, to connection events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from engine.cli.files import output_file
from engine.cli.mail_logs import open_logs, report_logs, time_zone_option, year_option
from engine.cli.options import Command, option_group, settings_from
from engine.imports.counts import ImportCounts
from engine.imports.csvfile import CsvColumns
from engine.imports.lines import STANDARD_STREAM
from engine.imports.readers import Reader, from_csv, from_exim, from_postfix
from engine.imports.streams import ndjson_blocks
from topics.contracts import CONNECTIONS
from topics.errors import OperatorError

FIELDS = ("ts", "ip", "mta", "messages", "recipients", "outcome")


class ImportFiles(NamedTuple):
    """Input and output of an import: FILE..., --time-zone, --out, --bootstrap and --explain-lines."""

    files: tuple[str, ...]
    time_zone: str | None
    out: str | None
    bootstrap: str | None
    explain_lines: bool


import_options = option_group(
    "source",
    ImportFiles,
    click.argument("files", nargs=-1, required=True, metavar="FILE..."),
    time_zone_option,
    click.option("--out", metavar="FILE", help="Output, gzipped if it ends in .gz.  [default: standard output]"),
    click.option("--bootstrap", metavar="HOST:PORT", help="Publish the events to this Kafka instead."),
    click.option("--explain-lines", is_flag=True, help="Report how many lines were used or ignored, with reasons."),
)


class ColumnNames(NamedTuple):
    """Names of the columns of a CSV file, None for the default."""

    ts_column: str | None
    ip_column: str | None
    mta_column: str | None
    messages_column: str | None
    recipients_column: str | None
    outcome_column: str | None


def _column_option(field: str) -> Callable[[Command], Command]:
    return click.option(f"--{field}-column", metavar="NAME", help=f"Column with {field}.  [default: {field}]")


column_options = option_group("names", ColumnNames, *(_column_option(field) for field in FIELDS))


@click.group(name="import")
def import_() -> None:
    """Convert logs of mail servers to connection events, written as NDJSON or published to Kafka.

    Reads plain, .gz, .bz2, .xz and .zst files, or - for standard input, and merges several files by time. Lines may be
    wrapped by journald, Docker, Kubernetes or a log collector. Unreadable lines are counted and reported, but not fatal.
    Exit status: 0, or 1 if a file was damaged or no event was found, or 2 for misuse.

    \b
    Example:
      tidegate import postfix /var/log/mail.log --year 2025 --time-zone Europe/Berlin --out mail.ndjson.gz
      tidegate replay mail.ndjson.gz --decisions -
    """


@import_.command()
@import_options
@year_option
@click.pass_context
def postfix(ctx: click.Context, /, source: ImportFiles, year: str | None) -> None:
    """Convert Postfix logs: one event per SMTP connection.

    \b
    Example:
      tidegate import postfix mail.log mail.log.1.gz --year mtime --time-zone Europe/Berlin --out mail.ndjson.gz
    """
    _run_import(ctx, source, year, from_postfix)


@import_.command()
@import_options
@year_option
@click.option("--mta", default="", metavar="NAME", help="Name of the mail server.  [default: host in syslog lines]")
@click.pass_context
def exim(ctx: click.Context, /, source: ImportFiles, year: str | None, mta: str) -> None:
    """Convert Exim main logs: one event per connection or message.

    An event is a connection if the log identifies connections, else a message.

    \b
    Example:
      tidegate import exim /var/log/exim4/mainlog --time-zone Europe/Berlin --mta mx1 --out mail.ndjson.gz
    """
    _run_import(ctx, source, year, partial(from_exim, mta=mta))


@import_.command()
@import_options
@column_options
@click.option("--delimiter", metavar="CHARACTER", help="Column separator.  [default: detected in the header]")
@click.pass_context
def csv(ctx: click.Context, /, source: ImportFiles, names: ColumnNames, delimiter: str | None) -> None:
    """Convert CSV with a header line: one event per row.

    ts is ISO 8601 or a number since the epoch (s, ms, us, ns); outcome is accepted, deferred, rejected or a reply code.

    \b
    Example:
      tidegate import csv connections.csv --ts-column time --ip-column client --out mail.ndjson.gz
    """
    columns_by_field = {
        "ts": names.ts_column,
        "ip": names.ip_column,
        "mta": names.mta_column,
        "messages": names.messages_column,
        "recipients": names.recipients_column,
        "outcome": names.outcome_column,
    }
    given: dict[str, Any] = {field: name for field, name in columns_by_field.items() if name}
    columns = CsvColumns(**given, asked=frozenset(given))
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise OperatorError(f"delimiter {delimiter!r}: give one character")
    _run_import(ctx, source, None, partial(from_csv, columns=columns, delimiter=delimiter))


def _run_import(ctx: click.Context, source: ImportFiles, year: str | None, reader: Reader) -> None:
    """Convert the files, deliver the events, and report on standard error."""
    _check_output(source)
    started_s = time.monotonic()
    with open_logs(source.files, year, source.time_zone) as reading:
        blocks = ndjson_blocks(reader(reading), reading.counts)
        if source.bootstrap:
            _publish(ctx, source.bootstrap, blocks, reading.counts)
        else:
            _write(source.out or STANDARD_STREAM, blocks)
    report_logs(reading, time.monotonic() - started_s, explain_lines=source.explain_lines)
    ctx.exit(1 if reading.counts.damaged or not reading.counts.events else 0)


def _check_output(source: ImportFiles) -> None:
    """Raise OperatorError for two outputs, for standard input twice, or if the output is one of the inputs."""
    files, out, bootstrap = source.files, source.out, source.bootstrap
    if out and bootstrap:
        raise OperatorError("--out and --bootstrap exclude each other: give one")
    if files.count(STANDARD_STREAM) > 1:
        raise OperatorError("standard input (-) is given twice: it can be read once")
    if out and out != STANDARD_STREAM and any(_is_same_file(path, out) for path in files):
        raise OperatorError(f"{out} is an input and would be overwritten: give another --out")


def _is_same_file(path: str, out: str) -> bool:
    return path != STANDARD_STREAM and Path(path).exists() and Path(out).exists() and Path(path).samefile(out)


def _write(name: str, blocks: Iterator[bytes]) -> None:
    """Write the blocks. The file is opened after the first block, so an error before it leaves an existing file as it was."""
    first = next(blocks, b"")
    with output_file(name) as out:
        out.write(first)
        out.writelines(blocks)


def _publish(ctx: click.Context, bootstrap: str, blocks: Iterator[bytes], counts: ImportCounts) -> None:
    from engine.imports.kafka_sink import KafkaSink
    from engine.kafka.topic_admin import check_topics, contracts_of

    settings = settings_from(ctx, kafka_bootstrap=bootstrap)
    check_topics(settings, create=False, needed=(CONNECTIONS,))
    asyncio.run(KafkaSink(contracts_of(settings)[0], settings.kafka.client_options()).send(blocks, counts))
