"""Read events from Postfix logs: one event per SMTP connection, with the time at which it began.

Lines used: of smtpd (also as smtps and submission) `connect from`, `disconnect from` with its command counts, `client=` (an
accepted message), refusals and connection limits; of qmgr a message's number of recipients; of cleanup a filter's refusal
after the data; of postscreen connections that never reached smtpd (`engine.imports.postscreen`).

A connection is identified by its process, which serves one client at a time; a message by its queue id. `messages` are the
accepted ones, or the MAIL commands, refused ones included, if the disconnect line counts them. Without that count a connection
with refusals alone is one message. A message lost in transmission counts as accepted, as nothing refused it. `recipients` are
the counted RCPT commands, else qmgr's numbers (after alias expansion) plus the refusals.

Behind a proxy that speaks XCLIENT, lines after `connect from` name the client. A connection by which a content filter brings
mail back (`orig_client=`) is no event: the client's own connection is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from engine.imports.connections import ConnectionOrder, LoggedConnection, address_text
from engine.imports.counts import ImportCounts
from engine.imports.postscreen import Postscreen
from engine.imports.streams import in_time_order
from engine.imports.syslog import NO_EVENT, SyslogEntry
from topics.events import ConnectionEvent

IDLE_MS = 3_600_000
AWAIT_MS = 60_000

_CONNECT, _DISCONNECT = _BOUNDS = b"connect from ", b"disconnect from "
_SMTPD = re.compile(
    rb"(?:(?P<queue>\w+): )?(?:client=(?P<client>[^\s,]+)(?P<original>,.* orig_client=)?"
    rb"|(?:milter-|proxy-)?reject: (?P<where>\S+)(?: from (?P<from>\S+))?: (?P<code>[45])\d\d[ -]"
    rb"|warning: (?:Connection|Message delivery request|Recipient address|New TLS connection|AUTH command)"
    rb" (?:rate|concurrency) limit exceeded: \d+ from (?P<limited>\S+))"
)
_COMMAND = re.compile(rb" (mail|rcpt)=(?:\d+/)?(\d+)")
_STATUS = re.compile(rb": ([45])\.\d{1,3}\.\d{1,3} ")
_MESSAGE_END = frozenset((b"DATA", b"BDAT", b"END-OF-MESSAGE"))
_NO_QUEUE = b"NOQUEUE"
NO_CONNECTION = "of messages and connections that did not arrive by SMTP in these logs, or were counted before"


def _is_smtpd_relevant(line: bytes, at: int) -> bool:
    return (
        line.startswith(_BOUNDS, at)
        or line.find(b"client=", at) > 0
        or line.find(b"reject: ", at) > 0
        or line.find(b" limit exceeded: ", at) > 0
    )


def _is_qmgr_relevant(line: bytes, _: int) -> bool:
    return b", nrcpt=" in line


def _is_cleanup_relevant(line: bytes, _: int) -> bool:
    return b"reject: " in line


def _is_postscreen_relevant(line: bytes, _: int) -> bool:
    return b" [" in line


SERVICES = {
    b"smtpd": _is_smtpd_relevant,
    b"qmgr": _is_qmgr_relevant,
    b"cleanup": _is_cleanup_relevant,
    b"postscreen": _is_postscreen_relevant,
}


@lru_cache(maxsize=4096)
def _host(process: bytes) -> str:
    return process.partition(b" ")[0].decode("utf-8", "replace")


def _address(client: bytes) -> str:
    """Return the address of `name[address]` or `name[address]:port`. Names have no brackets."""
    return address_text(client[client.find(b"[") + 1 : client.find(b"]")])


def _message_name(process: bytes, queue_id: bytes) -> bytes:
    """Return a queue id prefixed with its host. Services with names of their own (`syslog_name`) share a queue."""
    return process[: process.find(b" ") + 1] + queue_id


def _client(match: re.Match[bytes]) -> bytes:
    """Return the client that a line of smtpd names, b"" if it names none."""
    return match["client"] or match["from"] or match["limited"] or b""


class PostfixConnections:
    """Reads the lines of Postfix's services into connections."""

    def __init__(self, counts: ImportCounts) -> None:
        self._counts = counts
        self._order = ConnectionOrder(counts, IDLE_MS)
        self._postscreen = Postscreen(self._order, counts)

    def events(self, entries: Iterable[SyslogEntry]) -> Iterator[ConnectionEvent]:
        """Yield the events of all entries, which are in time order; those still open at the end come last."""
        order = self._order
        for ts, service, process, body in entries:
            if service == b"smtpd":
                self._smtpd(ts, process, body)
            elif service == b"qmgr":
                self._qmgr(process, body)
            elif service == b"cleanup":
                self._cleanup(process, body)
            else:
                self._postscreen.read(ts, process, body, _host(process))
            if order.may_have_settled:
                yield from order.drain_settled(ts)
        yield from order.flush()

    def _smtpd(self, ts: int, process: bytes, body: bytes) -> None:
        if body.startswith(_CONNECT):
            self._postscreen.pass_on(self._order.open(LoggedConnection(ts, _address(body), _host(process), process)))
            return
        connection = self._order.live.get(process)
        if body.startswith(_DISCONNECT):
            if connection:
                self._disconnect(ts, self._of_client(ts, connection, _address(body)), body)
            else:
                self._counts.set_aside(NO_CONNECTION)
            return
        match = _SMTPD.match(body)
        if not match:
            self._counts.set_aside(NO_EVENT)
            return
        if connection is None:
            connection = self._without_start(ts, process, match)
        self._apply(self._of_client(ts, connection, _address(_client(match))), ts, match)

    def _of_client(self, ts: int, connection: LoggedConnection, ip: str) -> LoggedConnection:
        """Return the connection of a client that a proxy names with XCLIENT during a connection of its own.

        The connection becomes the client's, from its beginning on. If it already served another client, that one's event is
        complete and the client has a new connection.
        """
        if not ip or ip == connection.ip:
            return connection
        if not connection.has_results():
            connection.ip = ip
            return connection
        self._order.close(connection, ts + AWAIT_MS)
        new = self._order.open(LoggedConnection(ts, ip, connection.mta, connection.key))
        new.is_shared = connection.is_shared = True
        return new

    def _without_start(self, ts: int, process: bytes, match: re.Match[bytes]) -> LoggedConnection:
        """Begin a connection whose start isn't in the log."""
        self._counts.without_start += 1
        return self._order.open(LoggedConnection(ts, _address(_client(match)), _host(process), process))

    def _apply(self, connection: LoggedConnection, ts: int, match: re.Match[bytes]) -> None:
        connection.last_seen_ms = ts
        queue, where, code = match["queue"], match["where"], match["code"]
        if match["client"]:
            connection.messages += 1
            connection.reinjected += match["original"] is not None
            if queue and queue != _NO_QUEUE:
                name = _message_name(connection.key, queue)
                self._order.await_line(connection, name)
        elif match["limited"]:
            connection.refuse(b"4")
        else:
            connection.refuse(code, recipient=where == b"RCPT")
            connection.refused_at_end += where in _MESSAGE_END and connection.refused_at_end < connection.messages

    def _disconnect(self, ts: int, connection: LoggedConnection, body: bytes) -> None:
        for command, count in () if connection.is_shared else _COMMAND.findall(body):
            number = min(int(count[:9]), 1_000_000)
            if command == b"mail":
                connection.offered_messages = number
            else:
                connection.offered_recipients = number
        if connection.offered_recipients:
            for name in [*connection.awaited]:
                self._order.end_wait(name)
            connection.awaited.clear()
        self._order.close(connection, ts + AWAIT_MS)

    def _arrived(self, process: bytes, body: bytes) -> LoggedConnection | None:
        """Return the connection of a message that reached the queue or was refused on the way, once per message."""
        return self._order.end_wait(_message_name(process, body[: body.find(b":")]))

    def _qmgr(self, process: bytes, body: bytes) -> None:
        number = body[body.rfind(b", nrcpt=") + 8 :].partition(b" ")[0]
        connection = self._arrived(process, body) if number.isdigit() else None
        if connection is None:
            self._counts.set_aside(NO_CONNECTION)
        else:
            connection.recipients += min(int(number[:9]), 1_000_000)
            connection.counted += 1

    def _cleanup(self, process: bytes, body: bytes) -> None:
        connection = self._arrived(process, body)
        if connection is None:
            self._counts.set_aside(NO_CONNECTION)
        else:
            codes = _STATUS.findall(body) or [b"5"]
            connection.refuse(codes[0] if b": milter-reject: " in body[:64] else codes[-1])
            connection.refused_at_end += 1


def postfix_events(entries: list[Iterator[SyslogEntry]], counts: ImportCounts) -> Iterator[ConnectionEvent]:
    """Yield the events of several logs, each in time order. A connection may continue in another log."""
    return PostfixConnections(counts).events(in_time_order(entries))
