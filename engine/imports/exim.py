"""Exim main logs to events, from the file itself or as written by syslog.

If the log tells connections apart (log selectors ``connection_id``, ``incoming_port`` or ``pid``, in this order of trust),
there is one event a connection, with the time of its first line. It ends with the line that says so (``smtp_connection``,
``smtp_no_mail``, a lost or dropped connection) or after ten silent minutes. Otherwise there is one event a message:
each arrival (``<=``) on its own, refused recipients of one client and sender within a minute together, and a lost or
empty connection only if nothing else was heard of that client in the five minutes before.

``recipients`` are those of the ``received_recipients`` selector, if set, and the refused ones. Local submissions (no
``H=``) are no connections. The main log does not say which host wrote it: `mta` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.imports.clock import UNREADABLE, StampClock
from engine.imports.counts import Tally
from engine.imports.lines import LogFile
from engine.imports.merge import in_time_order
from engine.imports.sessions import Session, Timeline, address_text
from engine.imports.syslog import plain_form
from topics.events import ConnectionEvent

IDLE_MS = 600_000
TOGETHER_MS = 60_000
RECENT_MS = 300_000
MOST_RECENT = 10_000

_HOST = rb"(?:H=)?(?:[^ \[\]()]+ )?(?:\([^ ]*\) )?\[(?P<ip>[^\] ]*)\](?::(?P<port>\d+))?"
_CI = rb"(?: I=\S+)?(?: U=\S*)?(?: Ci=(?P<ci>\S+))?"
_ARRIVAL = re.compile(
    rb'(?:[\w-]+ )?<= (?:"(?:[^"\\]|\\.)*"\S*|\S+)(?: R=\S+)?(?: DS)?(?P<remote> ' + _HOST + _CI + rb")?"
)
_REFUSAL = re.compile(
    rb"(?:[\w-]+ )?(?:DS )?(?=H=)"
    + _HOST
    + rb"(?= )"
    + _CI
    + rb".*? (?P<temporary>temporarily )?rejected (?P<what>\S+)"
)
_REFUSED = re.compile(
    rb"(?P<temporary>temporarily )?(?:refused connection from|[Cc]onnection from|rejected (?:EHLO|HELO) from"
    rb'|SMTP protocol synchronization error \([^)]*\): rejected (?:"[^"]*"|connection from)) ' + _HOST
)
_OPENED = re.compile(rb"SMTP connection from " + _HOST + _CI + rb".* ?\(TCP/IP connection count = \d+\)")
_ENDED = re.compile(
    rb"(?:[\w-]+ )?(?:SMTP connection (?:Ci=(?P<id>\S+) )?from|no MAIL in (?:TFO\*? )?SMTP connection from"
    rb"|unexpected disconnection while reading SMTP command from|SMTP command timeout on (?:TLS )?connection from"
    rb"|SMTP data timeout \(message abandoned\) on (?:TLS )?connection from|SMTP call from) " + _HOST + _CI
)
_SYSLOG = re.compile(
    rb"(?:[A-Z][a-z][a-z] [ \d]\d|\d{4}-\d\d-\d\dT)\S* ?\S+ (?P<host>\S+) exim\S*?(?:\[(?P<pid>\d+)\])?: "
)
_SPLIT = re.compile(rb"\[\d+[/\\]\d+\] ")
_PID = re.compile(rb"\[(\d+)\] ")
_WORDS = (b" <= ", b"rejected ", b"onnection", b"SMTP call ")


class Entry(NamedTuple):
    """A line of Exim's: ``host`` and ``pid`` as far as the log has them, ``body`` what stands behind stamp and pid."""

    ts: int
    host: bytes
    pid: bytes
    body: bytes


def exim_entries(log: LogFile, clock: StampClock, tally: Tally) -> Iterator[Entry]:
    """The lines of a log that may matter."""
    for line in log.lines():
        tally.lines += 1
        host, pid, at = b"", b"", 0
        text = plain_form(line) if line[:1] == b"<" else line
        if text[10:11] != b" " or not text[:4].isdigit():
            match = _SYSLOG.match(text)
            if match is None:
                if line.strip():
                    tally.refuse(log.name, line, "no line of Exim's main log")
                continue
            host, pid, at = match["host"], match["pid"] or b"", match.end()
        if not any(word in text for word in _WORDS):
            continue
        body = _SPLIT.sub(b"", text[at:], count=1) if at else text
        stamped = body[:4].isdigit() and body[4:5] == b"-"
        ts = clock.read(body if stamped else text)
        if ts == UNREADABLE:
            tally.refuse(log.name, line, "no time stamp")
            continue
        body = body[clock.end + 1 :] if stamped else body
        match = _PID.match(body)
        if match:
            pid, body = match[1], body[match.end() :]
        yield Entry(ts, host, pid, body)


def _recipients(body: bytes) -> int:
    """How many recipients the end of an arrival line names; 0 if it names none."""
    names = body.rpartition(b" for ")[2].split()
    return len(names) if len(names) < len(body.split()) and all(b"@" in name for name in names) else 0


class Connections:
    """Exim's connections, line by line."""

    def __init__(self, tally: Tally, mta: str) -> None:
        self._tally = tally
        self._mta = mta
        self._timeline = Timeline(tally, IDLE_MS)
        self._recent: dict[bytes, int] = {}

    def events(self, entries: Iterable[Entry]) -> Iterator[ConnectionEvent]:
        """The events of all entries, which are in time order; those still open at the end come last."""
        for entry in entries:
            self._read(entry)
            if self._timeline.stirred:
                yield from self._timeline.ready(entry.ts)
        yield from self._timeline.flush()

    def _read(self, entry: Entry) -> None:
        body = entry.body
        match = _ARRIVAL.match(body)
        if match:
            if match["remote"]:
                self._arrived(entry, match)
            return
        match = _REFUSAL.match(body)
        if match:
            self._refused(entry, match, recipient=match["what"] == b"RCPT")
            return
        match = _REFUSED.match(body)
        if match:
            self._refused(entry, match, recipient=False)
            return
        match = _OPENED.match(body)
        if match:
            if match["ci"] or match["port"]:
                self._session(entry, match, match["ci"])
            return
        match = _ENDED.match(body)
        if match:
            self._ended(entry, match)

    def _key(self, entry: Entry, match: re.Match[bytes], ci: bytes | None) -> bytes:
        """What tells this connection from others; b"" if the log has nothing that does."""
        if ci:
            return b"%s Ci=%s" % (entry.host, ci)
        if match["port"]:
            return b"%s [%s]:%s" % (entry.host, match["ip"], match["port"])
        return b"%s %s" % (entry.host, entry.pid) if entry.pid else b""

    def _begin(self, entry: Entry, ip: bytes, key: bytes) -> Session:
        host = entry.host.decode("utf-8", "replace")
        return self._timeline.open(Session(entry.ts, address_text(ip), self._mta or host, key))

    def _session(self, entry: Entry, match: re.Match[bytes], ci: bytes | None) -> Session | None:
        """The session that a line belongs to, begun if need be; None if the log doesn't tell connections apart."""
        key = self._key(entry, match, ci)
        if not key:
            return None
        session = self._timeline.live.get(key)
        if session is None or session.ip != address_text(match["ip"]):
            session = self._begin(entry, match["ip"], key)
        session.heard_ms = entry.ts
        return session

    def _arrived(self, entry: Entry, match: re.Match[bytes]) -> None:
        session = self._session(entry, match, match["ci"])
        alone = session is None
        if session is None:
            session = self._begin(entry, match["ip"], b"")
        session.messages += 1
        named = _recipients(entry.body)
        if named:
            session.recipients += named
            session.counted += 1
        if alone:
            self._timeline.close(session, entry.ts)
            self._heard(match["ip"], entry.ts)

    def _refused(self, entry: Entry, match: re.Match[bytes], *, recipient: bool) -> None:
        code = b"4" if match["temporary"] or match[0].startswith(b"Connection") else b"5"
        session = self._session(entry, match, match.groupdict().get("ci"))
        if session is None:
            session = self._together(entry, match)
        session.refuse(code, recipient=recipient)

    def _together(self, entry: Entry, match: re.Match[bytes]) -> Session:
        """The refusals of one client and sender within a minute, in a log that doesn't tell connections apart."""
        sender = match[0].partition(b" F=")[2].partition(b"> ")[0]
        name = b"%s %s %s" % (entry.host, match["ip"], sender)
        session = self._timeline.awaited.get(name)
        if session is None or entry.ts - session.opened_ms > TOGETHER_MS:
            session = self._begin(entry, match["ip"], b"")
            session.awaited.append(name)
            self._timeline.awaited[name] = session
            self._timeline.close(session, entry.ts + TOGETHER_MS)
        self._heard(match["ip"], entry.ts)
        return session

    def _ended(self, entry: Entry, match: re.Match[bytes]) -> None:
        ci = match["id"] or match["ci"]
        key = self._key(entry, match, ci)
        session = self._timeline.live.get(key) if key else None
        if session:
            self._timeline.close(session, entry.ts)
            self._heard(key, entry.ts)
        elif not self._is_recent(key or match["ip"], entry.ts):
            self._timeline.close(self._begin(entry, match["ip"], key), entry.ts)
            self._heard(key or match["ip"], entry.ts)

    def _heard(self, name: bytes, ts: int) -> None:
        self._recent.pop(name, None)
        self._recent[name] = ts
        if len(self._recent) > MOST_RECENT:
            del self._recent[next(iter(self._recent))]

    def _is_recent(self, name: bytes, ts: int) -> bool:
        return ts - self._recent.get(name, -RECENT_MS) < RECENT_MS


def exim_events(entries: list[Iterator[Entry]], tally: Tally, mta: str) -> Iterator[ConnectionEvent]:
    """The events of several logs together: each one's entries in time order. ``mta``: whose logs, "" if they say it."""
    return Connections(tally, mta).events(in_time_order(entries))
