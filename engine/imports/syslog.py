"""Select the syslog lines of Postfix's services before any timestamp is parsed.

A client may write everything after the program's tag (HELO names, sender addresses). So a service is only recognised by a
tag in its position: timestamp, host, `name/service[pid]:`. A line that merely contains such text belongs to another program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from engine.imports.clock import UNREADABLE, LogClock
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from engine.imports.order import ordered_lines

_PRIORITY = re.compile(rb"<\d{1,3}>(?=[A-Z\d])")
_RFC5424 = re.compile(rb"<\d{1,3}>1 (\S+) (\S+) (\S+) (\S+) \S+ (?:-|\[.*?\]) (?:\xef\xbb\xbf)?")
_TIMESTAMP = re.compile(rb"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d\S* |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_OTHER_MONTH = re.compile(
    rb"(?!(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) )[A-Za-z\x80-\xff]{3,6}\.? +\d{1,2} \d\d:\d\d:\d\d "
)
_SEVERITY = (
    rb"(?:emerg|alert|crit|critical|err|error|warn|warning|notice|info|debug|EMERG|ALERT|CRIT|CRITICAL|ERR|ERROR|WARN|WARNING"
    rb"|NOTICE|INFO|DEBUG)"
)
_LEVEL = re.compile(
    rb"<?(?:kern|user|mail|daemon|auth|security|syslog|lpr|news|uucp|cron|authpriv|ftp|local[0-7]|\d{1,2})\."
    rb"(?:" + _SEVERITY + rb"|panic|\d)>?|\[?" + _SEVERITY + rb"\]?"
)
_HOST = re.compile(rb"[^\s:\[\]<>(]+(?:::?[^\s:\[\]<>(]+)*")
_MESSAGE_ID = re.compile(rb"\[ID \d+ \S+\] ")


OTHER_PROGRAM = "of other programs"
NO_EVENT = "of the mail server, without effect on an event"
OTHER_LANGUAGE = "no timestamp with an English month (LC_ALL=C journalctl writes one)"
EMPTY = "empty, or headings of journalctl"


class SyslogEntry(NamedTuple):
    """A line of a service."""

    ts: int
    service: bytes
    process: bytes  # host and tag: `mx postfix/smtpd[26895`
    body: bytes  # the text after the tag


def plain_form(line: bytes) -> bytes:
    """Return a line with a syslog priority (RFC 5424 or older) in the form of a log file."""
    match = _RFC5424.match(line)
    if match:
        timestamp, host, program, pid = match.groups()
        return b"%s %s %s[%s]: %s" % (timestamp, host, program, pid, line[match.end() :])
    match = _PRIORITY.match(line)
    return line[match.end() :] if match else line


def service_entries(
    log: LogFile, clock: LogClock, counts: ImportCounts, services: Mapping[bytes, Callable[[bytes, int], bool]]
) -> Iterator[SyslogEntry]:
    """Yield the relevant lines of `services`, which maps a service to a test of (line, index where its body begins)."""
    for line in ordered_lines(log, clock):
        counts.lines += 1
        text = plain_form(line) if line[:1] == b"<" else line
        end = text.find(b"]: ")
        pid = text.rfind(b"[", 0, end) if end > 0 else -1
        service = text[max(text.rfind(b"/", 0, pid), text.rfind(b" ", 0, pid)) + 1 : pid] if pid > 0 else b""
        is_relevant = services.get(service)
        if is_relevant is None:
            _count_other(text, line, log, counts)
            continue
        if not is_relevant(text, end + 3):
            counts.ignore(NO_EVENT)
            continue
        ts = clock.read(text)
        if ts == UNREADABLE:
            counts.add_unreadable(log.name, line, OTHER_LANGUAGE if _OTHER_MONTH.match(text) else "no timestamp")
            continue
        process = process_of(text[clock.end + 1 : end])
        if process is None:
            counts.ignore(OTHER_PROGRAM)
            continue
        body = text[end + 3 :]
        if body[:1] == b"[":
            body = _MESSAGE_ID.sub(b"", body, count=1)
        counts.used += 1
        yield SyslogEntry(ts, service, process, body)


def process_of(text: bytes) -> bytes | None:
    """Return host and tag of the text between timestamp and process id; None if it is more than that.

    Facility and severity, as BusyBox and containers write them, are no host. The host is empty if the line has none.
    """
    if text.count(b" ") == 1 and text[:1] != b"<" and text[:1] != b" " and not _LEVEL.match(text):
        return text
    *before, tag = text.split()
    hosts = [word for word in before if not _LEVEL.fullmatch(word)]
    if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
        return None
    return (hosts[0] if hosts else b"") + b" " + tag


def _count_other(text: bytes, line: bytes, log: LogFile, counts: ImportCounts) -> None:
    """Count a line that is of none of the services."""
    if _TIMESTAMP.match(text):
        counts.ignore(OTHER_PROGRAM)
    elif not text.strip():
        counts.ignore(EMPTY)
    elif _OTHER_MONTH.match(text):
        counts.add_unreadable(log.name, line, OTHER_LANGUAGE)
    else:
        counts.add_unreadable(log.name, line, "no syslog line")
