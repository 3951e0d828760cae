"""Track postscreen's connections: those that it ended itself are events; those that it passed on are smtpd's.

One process screens many clients, so a connection is identified by process, address and port. A pass is logged as `PASS`,
`ALLOWLISTED` or not at all. Only a connection that postscreen ended itself has a `DISCONNECT`; it also follows a `PASS`
immediately when the deep protocol tests required the client to reconnect. A pass that wasn't logged is detected by smtpd's own
connection.
"""

from __future__ import annotations

import re

from engine.imports.connections import ConnectionOrder, LoggedConnection, address_text
from engine.imports.counts import ImportCounts
from engine.imports.syslog import NO_EVENT

MAX_SCREENED = 10_000
_PASS_SETTLES_MS = 2_000
_PEER = re.compile(
    rb"(CONNECT from|DISCONNECT|PASS OLD|PASS NEW|(?:ALLOW|WHITE)LISTED|(?:NOQUEUE: )?reject: (?P<where>\S+) from) "
    rb"\[(?P<ip>[^\]]*)\]:(?P<port>\d+)(?:: (?P<code>[45])\d\d )?"
)


class Postscreen:
    """Reads the lines of postscreen processes into the order of all connections."""

    def __init__(self, order: ConnectionOrder, counts: ImportCounts) -> None:
        self._counts = counts
        self._order = order
        self._screened: dict[tuple[str, str], LoggedConnection] = {}

    def read(self, ts: int, process: bytes, body: bytes, host: str) -> None:
        """Apply one line."""
        match = _PEER.match(body)
        if not match:
            self._counts.set_aside(NO_EVENT)
            return
        event, ip = match[1], match["ip"]
        key = b"%s [%s]:%s" % (process, ip, match["port"])
        if event == b"CONNECT from":
            connection = self._order.open(LoggedConnection(ts, address_text(ip), host, key))
            self._screened[host, connection.ip] = connection
            if len(self._screened) > MAX_SCREENED:
                del self._screened[next(iter(self._screened))]
            return
        if event == b"DISCONNECT":
            self._end(key, ts)
            return
        screened = self._order.live.get(key)
        if screened is None:
            return
        screened.last_seen_ms = ts
        if match["where"]:
            screened.refuse(match["code"] or b"4", recipient=match["where"] == b"RCPT")
        else:
            self._pass(screened, ts)

    def pass_on(self, connection: LoggedConnection) -> None:
        """Close postscreen's open connection of the client of a new smtpd connection: they are the same."""
        screened = self._screened.pop((connection.mta, connection.ip), None) if self._screened else None
        if screened and not screened.closed:
            screened.handed_over = True
            self._order.close(screened, connection.opened_ms)

    def _pass(self, connection: LoggedConnection, ts: int) -> None:
        connection.handed_over = True
        self._order.await_line(connection, connection.key)
        self._order.close(connection, ts + _PASS_SETTLES_MS)

    def _end(self, key: bytes, ts: int) -> None:
        connection = self._order.live.get(key)
        if connection:
            self._order.close(connection, ts)
        else:
            connection = self._order.end_wait(key)
            if connection is None:
                return
            connection.handed_over = False
        self._screened.pop((connection.mta, connection.ip), None)
