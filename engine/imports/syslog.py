"""Syslog lines of Postfix's services: which line is whose, told apart before any stamp is read.

Everything behind the program's tag may be written by a client (HELO names, sender addresses), so a service is only taken
from a tag in its place: stamp, host, ``name/service[pid]:``. A line that merely contains such text is another program's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from engine.imports.clock import UNREADABLE, StampClock
from engine.imports.counts import Tally
from engine.imports.lines import LogFile

_PRIORITY = re.compile(rb"<\d{1,3}>(?=[A-Z\d])")
_RFC5424 = re.compile(rb"<\d{1,3}>1 (\S+) (\S+) (\S+) (\S+) \S+ (?:-|\[.*?\]) (?:\xef\xbb\xbf)?")
_STAMPED = re.compile(rb"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_FACILITY = re.compile(rb"<\w+\.\w+> ")
_MESSAGE_ID = re.compile(rb"\[ID \d+ \S+\] ")


class Entry(NamedTuple):
    """A line of a service: ``process`` is host and tag (``mx postfix/smtpd[26895``), ``body`` what stands behind the tag."""

    ts: int
    service: bytes
    process: bytes
    body: bytes


def plain_form(line: bytes) -> bytes:
    """A line that begins with a syslog priority, RFC 5424 or older, as the line that a log file has."""
    match = _RFC5424.match(line)
    if match:
        stamp, host, program, pid = match.groups()
        return b"%s %s %s[%s]: %s" % (stamp, host, program, pid, line[match.end() :])
    match = _PRIORITY.match(line)
    return line[match.end() :] if match else line


def service_entries(
    log: LogFile, clock: StampClock, tally: Tally, services: Mapping[bytes, Callable[[bytes, int], bool]]
) -> Iterator[Entry]:
    """The lines of ``services``: each maps to a test of (line, where its body begins) that says whether it matters."""
    for line in log.lines():
        tally.lines += 1
        text = plain_form(line) if line[:1] == b"<" else line
        end = text.find(b"]: ")
        pid = text.rfind(b"[", 0, end) if end > 0 else -1
        matters = services.get(text[text.rfind(b"/", 0, pid) + 1 : pid]) if pid > 0 else None
        if matters is None:
            if not _STAMPED.match(text) and text.strip():
                tally.refuse(log.name, line, "no syslog line")
            continue
        if not matters(text, end + 3):
            continue
        ts = clock.read(text)
        if ts == UNREADABLE:
            tally.refuse(log.name, line, "no time stamp")
            continue
        process = text[clock.end + 1 : end]
        body = text[end + 3 :]
        if process[:1] == b"<":
            process = _FACILITY.sub(b"", process, count=1)
        if process.count(b" ") != 1:
            continue
        if body[:1] == b"[":
            body = _MESSAGE_ID.sub(b"", body, count=1)
        yield Entry(ts, text[text.rfind(b"/", 0, pid) + 1 : pid], process, body)
