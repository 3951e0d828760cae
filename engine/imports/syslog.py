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

_PRIORITY = re.compile(rb"<\d{1,3}>(?=[A-Z\d])")
_RFC5424 = re.compile(rb"<\d{1,3}>1 (\S+) (\S+) (\S+) (\S+) \S+ (?:-|\[.*?\]) (?:\xef\xbb\xbf)?")
_TIMESTAMP = re.compile(rb"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_FACILITY = re.compile(rb"<\w+\.\w+> ")
_MESSAGE_ID = re.compile(rb"\[ID \d+ \S+\] ")


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
    for line in log.lines():
        counts.lines += 1
        text = plain_form(line) if line[:1] == b"<" else line
        end = text.find(b"]: ")
        pid = text.rfind(b"[", 0, end) if end > 0 else -1
        is_relevant = services.get(text[text.rfind(b"/", 0, pid) + 1 : pid]) if pid > 0 else None
        if is_relevant is None:
            if not _TIMESTAMP.match(text) and text.strip():
                counts.add_unreadable(log.name, line, "no syslog line")
            continue
        if not is_relevant(text, end + 3):
            continue
        ts = clock.read(text)
        if ts == UNREADABLE:
            counts.add_unreadable(log.name, line, "no timestamp")
            continue
        process = text[clock.end + 1 : end]
        body = text[end + 3 :]
        if process[:1] == b"<":
            process = _FACILITY.sub(b"", process, count=1)
        if process.count(b" ") != 1:
            continue
        if body[:1] == b"[":
            body = _MESSAGE_ID.sub(b"", body, count=1)
        yield SyslogEntry(ts, text[text.rfind(b"/", 0, pid) + 1 : pid], process, body)
