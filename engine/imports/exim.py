"""Read events from Exim main logs, from the file itself or as written by syslog.

If the log identifies connections (log selectors `connection_id`, `incoming_port` or `pid`, in this order of preference),
there is one event per connection, with the time of its first line. It ends with the line that reports it (`smtp_connection`,
`smtp_no_mail`, a lost or dropped connection) or after ten minutes without a line. Otherwise there is one event per message:
each arrival (`<=`) is one; the recipients refused to one client and sender within a minute are one; a lost or empty connection
is one only if the client has no other line in the five minutes before.

`recipients` are those of the `received_recipients` selector, if set, plus the refused ones. Local submissions (no `H=`) are
no connections. The main log doesn't name its host: `mta` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.imports.clock import UNREADABLE, LogClock
from engine.imports.connections import ConnectionOrder, LoggedConnection, address_text
from engine.imports.counts import ImportCounts
from engine.imports.lines import LogFile
from engine.imports.order import ordered_lines
from engine.imports.streams import in_time_order
from engine.imports.syslog import EMPTY, NO_EVENT, OTHER_PROGRAM, plain_form, process_of
from topics.events import ConnectionEvent

IDLE_MS = 600_000
SAME_REFUSAL_MS = 60_000
RECENT_MS = 300_000
MAX_RECENT = 10_000

_HOST = rb"(?:H=)?(?:[^ \[\]()]+ )?(?:\((?:[^ ]*|[^()]*)\) )?\[(?P<ip>[^\] ]*)\](?::(?P<port>\d+))?"
_CI = rb"(?: (?:I=\S+|U=\S*|TFO\*?)){0,3}(?: Ci=(?P<ci>\S+))?"
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
    rb"(?:\w+-\w+-\w+ )?(?P<temporary>temporarily )?(?:refused connection from|[Cc]onnection from|rejected [A-Z]{4,8} from"
    rb'|SMTP protocol synchronization error \([^)]*\): rejected (?:"[^"]*"|connection from)'
    rb'|SMTP (?:protocol|syntax) error in "(?:[^"\\]|\\.)*"'
    rb"|unqualified (?:sender|recipient) rejected: <[^>]*>|too many recipients: message rejected: sender=<[^>]*>"
    rb"|rejected from <[^>]*>|\S+ authenticator failed for) " + _HOST + rb"(?:" + _CI + rb")"
)
_LOCAL_SCAN = re.compile(
    rb"(?:[\w-]+ )?F=(?:\"(?:[^\"\\]|\\.)*\"\S*|\S*) "
    + _HOST
    + _CI
    + rb".*? (?P<temporary>temporarily )?rejected by local_scan\(\): "
)
_AUTH_TEMPORARY = re.compile(rb":? 4\d\d ")
_OPENED = re.compile(rb"SMTP connection from " + _HOST + _CI + rb".* ?\(TCP/IP connection count = \d+\)")
_ENDED = re.compile(
    rb"(?:[\w-]+ )?(?:SMTP connection (?:Ci=(?P<id>\S+) )?from|no MAIL in (?:TFO\*? )?SMTP connection from"
    rb"|unexpected disconnection while reading SMTP command from|SMTP command timeout on (?:TLS )?connection from"
    rb"|SMTP data timeout \(message abandoned\) on (?:TLS )?connection from|SMTP call from) " + _HOST + _CI
)
_SYSLOG_TIME = rb"(?:[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d\S*|\d{4}-\d\d-\d\dT\S*) "
_SYSLOG = re.compile(_SYSLOG_TIME + rb"(?P<process>(?:[^\s:]\S*(?<!:) ){0,2}exim[^\s:\[]*)(?:\[(?P<pid>\d+)\])?: ")
_OTHER = re.compile(_SYSLOG_TIME + rb"\S")
_SPLIT = re.compile(rb"\[\d+[/\\]\d+\] ")
_PID = re.compile(rb"\[(\d+)\] ")
_WORDS = (
    b" <= ",
    b"rejected",
    b"onnection",
    b"SMTP call ",
    b" authenticator failed for ",
    b"SMTP protocol error",
    b"SMTP syntax",
)
LOCAL = "of messages that did not arrive by SMTP"


class EximEntry(NamedTuple):
    """A line of Exim's log."""

    ts: int
    host: bytes  # empty unless from syslog
    pid: bytes  # empty if the log has none
    body: bytes  # the text after timestamp and pid


def exim_entries(log: LogFile, clock: LogClock, counts: ImportCounts) -> Iterator[EximEntry]:
    """Yield the lines of a log that may be relevant."""
    for line in ordered_lines(log, clock):
        counts.lines += 1
        host, pid, at = b"", b"", 0
        text = plain_form(line) if line[:1] == b"<" else line
        if text[10:11] != b" " or not text[:4].isdigit():
            match = _SYSLOG.match(text)
            process = process_of(match["process"]) if match else None
            if match is None or process is None:
                _count_other(text, line, log, counts)
                continue
            host, pid, at = process.partition(b" ")[0], match["pid"] or b"", match.end()
        if not any(word in text for word in _WORDS):
            counts.ignore(NO_EVENT)
            continue
        body = _SPLIT.sub(b"", text[at:], count=1) if at else text
        has_time = body[:4].isdigit() and body[4:5] == b"-"
        ts = clock.read(body if has_time else text)
        if ts == UNREADABLE:
            counts.add_unreadable(log.name, line, "no timestamp")
            continue
        body = body[clock.end + 1 :] if has_time else body
        match = _PID.match(body)
        if match:
            pid, body = match[1], body[match.end() :]
        counts.used += 1
        yield EximEntry(ts, host, pid, body)


def _count_other(text: bytes, line: bytes, log: LogFile, counts: ImportCounts) -> None:
    """Count a line that is no line of Exim. Other programs may write to the same syslog file."""
    if not text.strip():
        counts.ignore(EMPTY)
    elif _OTHER.match(text):
        counts.ignore(OTHER_PROGRAM)
    else:
        counts.add_unreadable(log.name, line, "no line of Exim's main log")


def _recipients(body: bytes) -> int:
    """Return the number of recipients at the end of an arrival line, 0 if it names none."""
    names = body.rpartition(b" for ")[2].split()
    return len(names) if len(names) < len(body.split()) and all(b"@" in name for name in names) else 0


class EximConnections:
    """Reads Exim's lines into connections."""

    def __init__(self, counts: ImportCounts, mta: str) -> None:
        self._counts = counts
        self._mta = mta
        self._order = ConnectionOrder(counts, IDLE_MS)
        self._recent: dict[bytes, int] = {}

    def events(self, entries: Iterable[EximEntry]) -> Iterator[ConnectionEvent]:
        """Yield the events of all entries, which are in time order; those still open at the end come last."""
        for entry in entries:
            self._read(entry)
            if self._order.may_have_settled:
                yield from self._order.drain_settled(entry.ts)
        yield from self._order.flush()

    def _read(self, entry: EximEntry) -> None:
        body = entry.body
        match = _ARRIVAL.match(body)
        if match:
            if match["remote"]:
                self._arrived(entry, match)
            else:
                self._counts.set_aside(LOCAL)
            return
        match = _REFUSAL.match(body)
        if match:
            self._refused(entry, match, recipient=match["what"] == b"RCPT")
            return
        match = _REFUSED.match(body) or _LOCAL_SCAN.match(body)
        if match:
            self._refused(entry, match, recipient=match[0].startswith(b"unqualified recipient"))
            return
        match = _OPENED.match(body)
        if match:
            if match["ci"] or match["port"]:
                self._connection(entry, match, match["ci"])
            else:
                self._counts.set_aside(NO_EVENT)
            return
        match = _ENDED.match(body)
        if match:
            self._ended(entry, match)
        else:
            self._counts.set_aside(NO_EVENT)

    def _key(self, entry: EximEntry, match: re.Match[bytes], ci: bytes | None) -> bytes:
        """Return the identity of a connection, b"" if the log has none."""
        if ci:
            return b"%s Ci=%s" % (entry.host, ci)
        if match["port"]:
            return b"%s [%s]:%s" % (entry.host, match["ip"], match["port"])
        return b"%s %s" % (entry.host, entry.pid) if entry.pid else b""

    def _begin(self, entry: EximEntry, ip: bytes, key: bytes) -> LoggedConnection:
        host = entry.host.decode("utf-8", "replace")
        return self._order.open(LoggedConnection(entry.ts, address_text(ip), self._mta or host, key))

    def _connection(self, entry: EximEntry, match: re.Match[bytes], ci: bytes | None) -> LoggedConnection | None:
        """Return the connection of a line, a new one if needed; None if the log doesn't identify connections."""
        key = self._key(entry, match, ci)
        if not key:
            return None
        connection = self._order.live.get(key)
        if connection is None or connection.ip != address_text(match["ip"]):
            connection = self._begin(entry, match["ip"], key)
        connection.last_seen_ms = entry.ts
        return connection

    def _arrived(self, entry: EximEntry, match: re.Match[bytes]) -> None:
        connection = self._connection(entry, match, match["ci"])
        is_message = connection is None
        if connection is None:
            connection = self._begin(entry, match["ip"], b"")
        connection.messages += 1
        recipients = _recipients(entry.body)
        if recipients:
            connection.recipients += recipients
            connection.counted += 1
        if is_message:
            self._order.close(connection, entry.ts)
            self._mark_recent(match["ip"], entry.ts)

    def _refused(self, entry: EximEntry, match: re.Match[bytes], *, recipient: bool) -> None:
        is_temporary = match["temporary"] or match[0].startswith(b"Connection")
        if not is_temporary and b" authenticator failed for " in match[0]:
            is_temporary = _AUTH_TEMPORARY.match(entry.body, match.end())
        code = b"4" if is_temporary else b"5"
        connection = self._connection(entry, match, match.groupdict().get("ci"))
        if connection is None:
            connection = self._refusals_of(entry, match)
        connection.refuse(code, recipient=recipient)

    def _refusals_of(self, entry: EximEntry, match: re.Match[bytes]) -> LoggedConnection:
        """Return the connection that collects the refusals of one client and sender within a minute."""
        sender = match[0].partition(b" F=")[2].partition(b"> ")[0]
        name = b"%s %s %s" % (entry.host, match["ip"], sender)
        connection = self._order.awaited.get(name)
        if connection is None or entry.ts - connection.opened_ms > SAME_REFUSAL_MS:
            connection = self._begin(entry, match["ip"], b"")
            self._order.await_line(connection, name)
            self._order.close(connection, entry.ts + SAME_REFUSAL_MS)
        self._mark_recent(match["ip"], entry.ts)
        return connection

    def _ended(self, entry: EximEntry, match: re.Match[bytes]) -> None:
        ci = match["id"] or match["ci"]
        key = self._key(entry, match, ci)
        connection = self._order.live.get(key) if key else None
        if connection:
            self._order.close(connection, entry.ts)
            self._mark_recent(key, entry.ts)
        elif not self._is_recent(key or match["ip"], entry.ts):
            self._order.close(self._begin(entry, match["ip"], key), entry.ts)
            self._mark_recent(key or match["ip"], entry.ts)

    def _mark_recent(self, name: bytes, ts: int) -> None:
        self._recent.pop(name, None)
        self._recent[name] = ts
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    def _is_recent(self, name: bytes, ts: int) -> bool:
        return ts - self._recent.get(name, -RECENT_MS) < RECENT_MS


def exim_events(entries: list[Iterator[EximEntry]], counts: ImportCounts, mta: str) -> Iterator[ConnectionEvent]:
    """Yield the events of several logs, each in time order. `mta`: name of the mail server, "" if the logs have it."""
    return EximConnections(counts, mta).events(in_time_order(entries))
