"""Postfix logs to events: one event an SMTP connection, with the time at which it began.

From smtpd (also as smtps and submission): ``connect from``, ``disconnect from`` with its command counts, ``client=`` (a
message taken in), refusals, connection limits; from qmgr a message's number of recipients; from cleanup what a filter
refused after the message had been read; postscreen's connections that smtpd never got (`engine.imports.postscreen`).

A connection is followed by its process, which serves one client at a time; a message by its queue id. ``messages`` are
those taken in, or, where the disconnect line counts them, the MAIL commands, refused ones included; without that count a
connection that only met refusals is one message. A message lost while it was sent counts as taken in: nothing refused it.
``recipients`` are the RCPT commands counted, else qmgr's numbers (after alias expansion) and the refusals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from engine.imports.counts import Tally
from engine.imports.merge import in_time_order
from engine.imports.postscreen import Postscreen
from engine.imports.sessions import Session, Timeline, address_text
from engine.imports.syslog import Entry
from topics.events import ConnectionEvent

IDLE_MS = 3_600_000
AWAIT_MS = 60_000

_CONNECT, _DISCONNECT = _EDGES = b"connect from ", b"disconnect from "
_SMTPD = re.compile(
    rb"(?:(?P<queue>\w+): )?(?:client=(?P<client>\S+)"
    rb"|(?:milter-|proxy-)?reject: (?P<where>\S+)(?: from (?P<from>\S+))?: (?P<code>[45])\d\d[ -]"
    rb"|warning: (?:Connection|Message delivery request|Recipient address|New TLS session|AUTH command)"
    rb" (?:rate|concurrency) limit exceeded: \d+ from (?P<limited>\S+))"
)
_COMMAND = re.compile(rb" (mail|rcpt)=(?:\d+/)?(\d+)")
_STATUS = re.compile(rb": ([45])\.\d{1,3}\.\d{1,3} ")
_MESSAGE_END = frozenset((b"DATA", b"BDAT", b"END-OF-MESSAGE"))
_NO_QUEUE = b"NOQUEUE"


def _smtpd_matters(line: bytes, at: int) -> bool:
    return (
        line.startswith(_EDGES, at)
        or line.find(b"client=", at) > 0
        or line.find(b"reject: ", at) > 0
        or line.find(b" limit exceeded: ", at) > 0
    )


def _qmgr_matters(line: bytes, _: int) -> bool:
    return b", nrcpt=" in line


def _cleanup_matters(line: bytes, _: int) -> bool:
    return b"reject: " in line


def _postscreen_matters(line: bytes, _: int) -> bool:
    return b" [" in line


SERVICES = {
    b"smtpd": _smtpd_matters,
    b"qmgr": _qmgr_matters,
    b"cleanup": _cleanup_matters,
    b"postscreen": _postscreen_matters,
}


@lru_cache(maxsize=4096)
def _host(process: bytes) -> str:
    return process.partition(b" ")[0].decode("utf-8", "replace")


def _address(client: bytes) -> str:
    """The address in ``name[address]`` or ``name[address]:port``; names have no brackets."""
    return address_text(client[client.find(b"[") + 1 : client.find(b"]")])


def _message(process: bytes, queue_id: bytes) -> bytes:
    """A queue id together with the Postfix instance whose it is: host and the tag's first name."""
    return process[: process.find(b"/") + 1] + queue_id


class Connections:
    """Connections of Postfix's services, line by line."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._timeline = Timeline(tally, IDLE_MS)
        self._postscreen = Postscreen(self._timeline)

    def events(self, entries: Iterable[Entry]) -> Iterator[ConnectionEvent]:
        """The events of all entries, which are in time order; those still open at the end come last."""
        timeline = self._timeline
        for ts, service, process, body in entries:
            if service == b"smtpd":
                self._smtpd(ts, process, body)
            elif service == b"qmgr":
                self._qmgr(process, body)
            elif service == b"cleanup":
                self._cleanup(process, body)
            else:
                self._postscreen.read(ts, process, body, _host(process))
            if timeline.stirred:
                yield from timeline.ready(ts)
        yield from timeline.flush()

    def _smtpd(self, ts: int, process: bytes, body: bytes) -> None:
        if body.startswith(_CONNECT):
            self._postscreen.pass_on(self._timeline.open(Session(ts, _address(body), _host(process), process)))
            return
        session = self._timeline.live.get(process)
        if body.startswith(_DISCONNECT):
            if session:
                self._disconnect(ts, session, body)
            return
        match = _SMTPD.match(body)
        if match:
            self._step(session or self._headless(ts, process, match), ts, match)

    def _headless(self, ts: int, process: bytes, match: re.Match[bytes]) -> Session:
        """A session whose beginning isn't in the log."""
        self._tally.headless += 1
        client = match["client"] or match["from"] or match["limited"] or b""
        return self._timeline.open(Session(ts, _address(client), _host(process), process))

    def _step(self, session: Session, ts: int, match: re.Match[bytes]) -> None:
        session.heard_ms = ts
        queue, where, code = match["queue"], match["where"], match["code"]
        if match["client"]:
            session.messages += 1
            if queue and queue != _NO_QUEUE:
                name = _message(session.key, queue)
                session.awaited.append(name)
                self._timeline.awaited[name] = session
        elif match["limited"]:
            session.refuse(b"4")
        else:
            session.refuse(code, recipient=where == b"RCPT")
            session.turned_down += where in _MESSAGE_END and session.turned_down < session.messages

    def _disconnect(self, ts: int, session: Session, body: bytes) -> None:
        for command, count in _COMMAND.findall(body):
            number = min(int(count[:9]), 1_000_000)
            if command == b"mail":
                session.offered_messages = number
            else:
                session.offered_recipients = number
        if session.offered_recipients:
            for name in session.awaited:
                self._timeline.awaited.pop(name, None)
            session.awaited.clear()
        self._timeline.close(session, ts + AWAIT_MS)

    def _arrived(self, process: bytes, body: bytes) -> Session | None:
        """The session of a message that reached the queue, or was refused on its way; each message once."""
        name = _message(process, body[: body.find(b":")])
        session = self._timeline.awaited.pop(name, None)
        if session:
            session.awaited.remove(name)
            self._timeline.stirred = True
        return session

    def _qmgr(self, process: bytes, body: bytes) -> None:
        number = body[body.rfind(b", nrcpt=") + 8 :].partition(b" ")[0]
        session = self._arrived(process, body) if number.isdigit() else None
        if session:
            session.recipients += min(int(number[:9]), 1_000_000)
            session.counted += 1

    def _cleanup(self, process: bytes, body: bytes) -> None:
        session = self._arrived(process, body)
        if session:
            codes = _STATUS.findall(body) or [b"5"]
            session.refuse(codes[0] if b": milter-reject: " in body[:64] else codes[-1])
            session.turned_down += 1


def postfix_events(entries: list[Iterator[Entry]], tally: Tally) -> Iterator[ConnectionEvent]:
    """The events of several logs together: each one's entries in time order, a connection may go from one into another."""
    return Connections(tally).events(in_time_order(entries))
