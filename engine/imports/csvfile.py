"""Read events from CSV: a header line, then one event per line. Only the columns `ts` and `ip` are required.

`ts` is ISO 8601, or a number: seconds since epoch; ms, us or ns from 10^11, 10^14 and 10^17 on. `outcome` is accepted,
deferred or rejected, or an SMTP reply code. Empty fields take their defaults. A row is one line: fields with line breaks
aren't supported. Rows keep their order: sort them by time first, as the engine expects events in order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.imports.clock import UNREADABLE, LogClock
from engine.imports.connections import address_text
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from topics.errors import OperatorError
from topics.events import ACCEPTED, DEFERRED, LAST_TS_MS, MAX_MESSAGES, OUTCOMES, REJECTED, ConnectionEvent

DELIMITERS = ",;\t|"
_BY_CODE = {"2": ACCEPTED, "4": DEFERRED, "5": REJECTED}
_ENDPOINT = re.compile(r"\[(?P<bracketed>[^\]]+)\](?::\d{1,5})?|(?P<v4>\d+\.\d+\.\d+\.\d+):\d{1,5}")
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})[ T,]+(\d{1,2}):(\d\d)(?::(\d\d))?")
_SEPARATOR = re.compile(rb'"?sep=(.)"?\s*', re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{4}")
_FIELDS = b"#Fields:"
EMPTY, HEADER, NOT_RECEIVED = "empty", "header", "of Exchange, but no message received by SMTP"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class CsvColumns:
    """The column names of the fields."""

    ts: str = "ts"
    ip: str = "ip"
    mta: str = "mta"
    messages: str = "messages"
    recipients: str = "recipients"
    outcome: str = "outcome"
    asked: frozenset[str] = frozenset()  # fields whose column is required, next to ts and ip


class BadRow(ValueError):
    """A row is no event; the message is the reason."""


def delimiter_of(header: bytes) -> str:
    """Return the delimiter that is most frequent in the header, the comma if it has none."""
    return max(DELIMITERS, key=lambda character: header.count(character.encode()))


def _time_ms(text: str, clock: LogClock) -> int:
    try:
        number = float(text) if "." in text else int(text)
    except ValueError:
        day_first = _DAY_FIRST.fullmatch(text)
        if day_first:
            day, month, year, hour, minute, second = (int(group or 0) for group in day_first.groups())
            text = f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        timestamp = text.encode("utf-8", "replace")
        ts = clock.read(timestamp) if timestamp[:1].isdigit() else UNREADABLE
        if ts == UNREADABLE or clock.end != len(timestamp):
            raise BadRow("no time") from None
        return ts
    if number >= 10**17:
        number //= 10**6
    elif number >= 10**14:
        number //= 10**3
    elif number < 10**11:
        number *= 1000
    if not 0 <= number <= LAST_TS_MS:
        raise BadRow("time out of range")
    return round(number)


def _address(text: str) -> str:
    """Return the address of an endpoint: `address:port`, `[address]:port`, `[address]`, or with the prefix `IPv6:` of SMTP."""
    endpoint = _ENDPOINT.fullmatch(text)
    if endpoint:
        text = endpoint["bracketed"] or endpoint["v4"]
    return text[5:] if text[:5].lower() == "ipv6:" else text


def _count(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > MAX_MESSAGES:
        raise BadRow(f"not a number from 0 to {MAX_MESSAGES}")
    return int(text)


def _outcome(text: str) -> str:
    if not text:
        return ACCEPTED
    word = text.lower()
    if word in OUTCOMES:
        return word
    if len(text) == 3 and text.isdigit() and text[0] in _BY_CODE:
        return _BY_CODE[text[0]]
    raise BadRow("outcome unknown")


class CsvTable:
    """The column order of one file. Raise OperatorError if the header lacks a required column."""

    def __init__(self, name: str, header: bytes, columns: CsvColumns, delimiter: str | None) -> None:
        text = header.removeprefix(_BYTE_ORDER_MARK)
        self._delimiter = delimiter or delimiter_of(text)
        names = [field.strip().lower() for field in self._fields(text)]
        self._at: list[int] = []
        for field in ("ts", "ip", "mta", "messages", "recipients", "outcome"):
            wanted = getattr(columns, field)
            if wanted.lower() in names:
                self._at.append(names.index(wanted.lower()))
            elif field in ("ts", "ip") or field in columns.asked:
                have = ", ".join(names)
                raise OperatorError(f"{name} has no column {wanted!r} (it has {have}): give --{field}-column NAME")
            else:
                self._at.append(-1)
        self._time_at = names.index("time") if "time" in names else -1
        is_tracking = "event-id" in names and "source" in names
        self._tracking = (names.index("source"), names.index("event-id")) if is_tracking else None

    def _fields(self, line: bytes) -> list[str]:
        try:
            return next(csv.reader([line.decode("utf-8", "replace")], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise BadRow(str(error)) from None

    def event(self, line: bytes, clock: LogClock) -> ConnectionEvent | None:
        """Return the event of a row, None for a step of Exchange's message tracking other than receipt by SMTP.

        A date without a time is completed by the column `time`. Raise BadRow if the row is no event.
        """
        fields = self._fields(line)
        if self._tracking and [fields[at].upper() for at in self._tracking if at < len(fields)] != ["SMTP", "RECEIVE"]:
            return None
        ts, ip, mta, messages, recipients, outcome = (
            fields[at].strip() if 0 <= at < len(fields) else "" for at in self._at
        )
        if _DATE.fullmatch(ts) and 0 <= self._time_at < len(fields):
            ts = f"{ts} {fields[self._time_at].strip()}"
        ip = _address(ip)
        if not address_text(ip.encode("utf-8", "replace")):
            raise BadRow("no address")
        ts_ms, offered = _time_ms(ts, clock), _count(messages, 1)
        return ConnectionEvent(ts_ms, ip, mta, offered, _count(recipients, offered), _outcome(outcome))


def csv_events(
    log: LogFile, clock: LogClock, counts: ImportCounts, columns: CsvColumns, delimiter: str | None
) -> Iterator[ConnectionEvent]:
    """Yield the events of one file. Rows that are none are counted. An empty file has no events."""
    lines = (line.removesuffix(b"\r") for line in log.lines())
    header, delimiter = _header(lines, counts, delimiter)
    if not header:
        return
    try:
        table = CsvTable(log.name, header, columns, delimiter)
    except BadRow as error:
        raise OperatorError(f"{log.name} does not begin with a CSV header: {error}") from None
    for line in lines:
        counts.lines += 1
        if not line.strip():
            counts.ignore(EMPTY)
            continue
        if line[:1] == b"#":
            counts.ignore(HEADER)
            continue
        try:
            event = table.event(line, clock)
        except BadRow as error:
            counts.add_unreadable(log.name, line, str(error))
            continue
        if event is None:
            counts.ignore(NOT_RECEIVED)
            continue
        counts.used += 1
        yield event


def _header(lines: Iterator[bytes], counts: ImportCounts, delimiter: str | None) -> tuple[bytes, str | None]:
    """Return the line with the column names, and the delimiter if it is known before it.

    Lines before the header are Excel's `sep=` and the comments of W3C logs and of Exchange, whose `#Fields:` is the header.
    """
    for raw in lines:
        counts.lines += 1
        counts.ignore(HEADER)
        line = raw.removeprefix(_BYTE_ORDER_MARK)
        separator = _SEPARATOR.fullmatch(line)
        if separator:
            delimiter = delimiter or separator[1].decode("ascii", "replace")
        elif line.startswith(_FIELDS):
            return line[len(_FIELDS) :].strip(), delimiter
        elif line[:1] != b"#":
            return line, delimiter
    return b"", delimiter
