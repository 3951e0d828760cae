"""Senders' connections that mail servers asked about: each becomes one event when it has ended or gone quiet.

Mail servers ask several times about one connection (Postfix at every recipient). Requests carry names of the connection
and the message, so a message is answered and counted once. If a connection that was ended as quiet is asked about again,
its new messages are another event.

An event counts the messages that passed. Messages that the edge deferred in the same connection will be retried; they are
in a field of their own. Only a connection from which no message passed has the outcome "deferred".

Limits: at `MAX_OPEN` the connection that was quiet longest is ended; beyond `MAX_ENDED` ended ones are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from engine.edge.lookup import LookupResult
from topics.events import ACCEPTED, DEFERRED

MAX_OPEN = 65_536
MAX_ENDED = 262_144
Name = str | bytes  # of a connection, a message or a recipient; only compared for equality


class Connection:
    """One sender's connection: its current message, and counts of messages and recipients passed and deferred."""

    __slots__ = ("deferred", "deferred_recipients", "first_ms", "ip", "is_deferred", "last_ms", "message", "passed",
                 "passed_recipients", "recipient", "result")  # fmt: skip

    def __init__(self, ip: str, now_ms: int) -> None:
        self.ip = ip
        self.first_ms = self.last_ms = now_ms
        self.message: Name = ""
        self.recipient: Name = ""
        self.result: LookupResult | None = None  # of the current message
        self.passed = self.deferred = self.passed_recipients = self.deferred_recipients = 0

    def begin_message(self, message: Name, result: LookupResult, *, deferred: bool) -> None:
        """Make a new message the current one and count it."""
        self.message, self.result, self.recipient, self.is_deferred = message, result, "", deferred
        if deferred:
            self.deferred += 1
        else:
            self.passed += 1

    def add_recipient(self, recipient: Name) -> None:
        """Count another recipient of the current message."""
        self.recipient = recipient
        if self.is_deferred:
            self.deferred_recipients += 1
        else:
            self.passed_recipients += 1

    def reverse_deferral(self, result: LookupResult) -> None:
        """Count the current message, deferred so far, as passed with another result."""
        self.result, self.is_deferred = result, False
        self.deferred -= 1
        self.passed += 1
        if self.recipient:
            self.deferred_recipients -= 1
            self.passed_recipients += 1

    def event(self, mta: str) -> bytes:
        """Return the connection event of the mail server `mta` as JSON."""
        deferred = self.deferred > 0 and self.passed == 0
        messages = self.deferred if deferred else self.passed
        recipients = self.deferred_recipients if deferred else self.passed_recipients
        fields: dict[str, object] = {
            "ts": self.first_ms,
            "ip": self.ip,
            "mta": mta,
            "messages": messages,
            "recipients": max(messages, recipients),
            "outcome": DEFERRED if deferred else ACCEPTED,
        }
        if self.deferred and not deferred:
            fields["deferred_messages"] = self.deferred
        return orjson.dumps(fields)


class ConnectionTracker:
    """Open connections in the order of their last request, and ended ones until `pop_ended` takes them.

    If `reported` is False, ended connections are forgotten.
    """

    def __init__(self, quiet_ms: int, *, reported: bool = True) -> None:
        self._quiet_ms, self._reported = quiet_ms, reported
        self._open: dict[Name, Connection] = {}
        self._ended: list[Connection] = []
        self.dropped = 0

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def touch(self, key: Name, ip: str, now_ms: int) -> Connection:
        """Return the connection of this name and record a request about it; opens it if it isn't open."""
        connection = self._open.pop(key, None)
        if connection is None:
            if len(self._open) >= MAX_OPEN:
                self.end(next(iter(self._open)))
            connection = Connection(ip, now_ms)
        else:
            connection.last_ms = now_ms
        self._open[key] = connection
        return connection

    def end(self, key: Name) -> None:
        """End a connection, if it is open."""
        connection = self._open.pop(key, None)
        if connection is not None and self._reported:
            if len(self._ended) < MAX_ENDED:
                self._ended.append(connection)
            else:
                self.dropped += 1

    def forget(self, key: Name) -> None:
        """Drop a connection without an event, because its address is unreadable."""
        self._open.pop(key, None)

    def end_quiet(self, now_ms: int) -> None:
        """End the connections without a request in the last `quiet_ms`."""
        for key in list(self._quiet_since(now_ms - self._quiet_ms)):
            self.end(key)

    def end_all(self) -> None:
        """End every connection."""
        for key in list(self._open):
            self.end(key)

    @property
    def ended_count(self) -> int:
        """The number of ended connections that `pop_ended` has not returned yet."""
        return len(self._ended)

    def pop_ended(self, limit: int) -> list[Connection]:
        """Remove and return up to `limit` ended connections, the oldest first."""
        popped, self._ended = self._ended[:limit], self._ended[limit:]
        return popped

    def _quiet_since(self, before_ms: int) -> Iterator[Name]:
        for key, connection in self._open.items():
            if connection.last_ms > before_ms:
                return
            yield key
