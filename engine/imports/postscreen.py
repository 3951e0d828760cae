"""postscreen's connections: those that it kept from smtpd are events, those that it passed on are smtpd's.

One process screens many clients, so a connection is known by process, address and port. A pass is logged as ``PASS``,
``ALLOWLISTED`` or not at all; only a connection that postscreen ended itself has a ``DISCONNECT``, right behind a ``PASS``
too when the deep protocol tests made the client come again. A pass that wasn't logged shows by smtpd's own connection.
"""

from __future__ import annotations

import re

from engine.imports.sessions import Session, Timeline, address_text

MOST_SCREENED = 10_000
_PASS_SETTLES_MS = 2_000
_PEER = re.compile(
    rb"(CONNECT from|DISCONNECT|PASS OLD|PASS NEW|(?:ALLOW|WHITE)LISTED|(?:NOQUEUE: )?reject: (?P<where>\S+) from) "
    rb"\[(?P<ip>[^\]]*)\]:(?P<port>\d+)(?:: (?P<code>[45])\d\d )?"
)


class Postscreen:
    """The connections of postscreen processes, on the timeline of all connections."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._screened: dict[tuple[str, str], Session] = {}

    def read(self, ts: int, process: bytes, body: bytes, host: str) -> None:
        """Take in one line."""
        match = _PEER.match(body)
        if not match:
            return
        event, ip = match[1], match["ip"]
        key = b"%s [%s]:%s" % (process, ip, match["port"])
        if event == b"CONNECT from":
            session = self._timeline.open(Session(ts, address_text(ip), host, key))
            self._screened[host, session.ip] = session
            if len(self._screened) > MOST_SCREENED:
                del self._screened[next(iter(self._screened))]
            return
        if event == b"DISCONNECT":
            self._end(key, ts)
            return
        held = self._timeline.live.get(key)
        if held is None:
            return
        held.heard_ms = ts
        if match["where"]:
            held.refuse(match["code"] or b"4", recipient=match["where"] == b"RCPT")
        else:
            self._pass(held, ts)

    def pass_on(self, session: Session) -> None:
        """A new connection of smtpd's: if postscreen still holds one of this client, it is the same."""
        screened = self._screened.pop((session.mta, session.ip), None) if self._screened else None
        if screened and not screened.closed:
            screened.handed_over = True
            self._timeline.close(screened, session.opened_ms)

    def _pass(self, session: Session, ts: int) -> None:
        session.handed_over = True
        session.awaited.append(session.key)
        self._timeline.awaited[session.key] = session
        self._timeline.close(session, ts + _PASS_SETTLES_MS)

    def _end(self, key: bytes, ts: int) -> None:
        session = self._timeline.live.get(key)
        if session:
            self._timeline.close(session, ts)
        else:
            session = self._timeline.awaited.pop(key, None)
            if session is None:
                return
            session.handed_over = False
            session.awaited.clear()
            self._timeline.stirred = True
        self._screened.pop((session.mta, session.ip), None)
