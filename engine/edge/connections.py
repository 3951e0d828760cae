"""Connections that the edge was asked about: each becomes one event, when it has ended or gone quiet.

MTAs ask several times about one connection (Postfix at every recipient), so requests are told apart by what names the
connection and the message: a message is answered and counted once, however often it comes up. One that speaks again
after it was given up as quiet is counted again from there, with what is new.

An event counts what passed; what we deferred in the same connection is a retry to come and stands beside it. Only a
connection from which nothing passed is ``deferred``. At `MOST_OPEN` connections the one silent longest is ended.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from engine.edge.lookup import Answer
from topics.events import ACCEPTED, DEFERRED

MOST_OPEN = 65_536
MOST_ENDED = 262_144
Name = str | bytes  # of a connection, a message or a recipient: only compared


class Connection:
    """A client's connection, as far as it was heard of. ``answer``: to the message at work, if there is one."""

    __slots__ = ("answer", "deferred", "deferred_recipients", "first_ms", "ip", "last_ms", "message", "passed",
                 "passed_recipients", "postponed", "recipient")  # fmt: skip

    def __init__(self, ip: str, now_ms: int) -> None:
        self.ip = ip
        self.first_ms = self.last_ms = now_ms
        self.message: Name = ""
        self.recipient: Name = ""
        self.answer: Answer | None = None
        self.passed = self.deferred = self.passed_recipients = self.deferred_recipients = 0

    def begin(self, message: Name, answer: Answer, *, deferred: bool) -> None:
        """A new message and its answer."""
        self.message, self.answer, self.recipient, self.postponed = message, answer, "", deferred
        if deferred:
            self.deferred += 1
        else:
            self.passed += 1

    def add(self, recipient: Name) -> None:
        """Another recipient of the message at work."""
        self.recipient = recipient
        if self.postponed:
            self.deferred_recipients += 1
        else:
            self.passed_recipients += 1

    def pardon(self, answer: Answer) -> None:
        """The message at work, deferred just now, passes all the same."""
        self.answer, self.postponed = answer, False
        self.deferred -= 1
        self.passed += 1
        if self.recipient:
            self.deferred_recipients -= 1
            self.passed_recipients += 1

    def event(self, mta: str) -> bytes:
        """The connection event: one JSON object."""
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


class Connections:
    """The open ones, in order of their last request, and those that have ended since somebody took them; without
    ``reported`` nobody will, and they are forgotten."""

    def __init__(self, quiet_ms: int, *, reported: bool = True) -> None:
        self._quiet_ms, self._reported = quiet_ms, reported
        self._open: dict[Name, Connection] = {}
        self._ended: list[Connection] = []
        self.dropped = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def heard(self, key: Name, ip: str, now_ms: int) -> Connection:
        """The connection of that name, just heard of."""
        connection = self._open.pop(key, None)
        if connection is None:
            if len(self._open) >= MOST_OPEN:
                self.end(next(iter(self._open)))
            connection = Connection(ip, now_ms)
        else:
            connection.last_ms = now_ms
        self._open[key] = connection
        return connection

    def end(self, key: Name) -> None:
        """It has ended, if it is open at all."""
        connection = self._open.pop(key, None)
        if connection is not None and self._reported:
            if len(self._ended) < MOST_ENDED:
                self._ended.append(connection)
            else:
                self.dropped += 1

    def forget(self, key: Name) -> None:
        """It was none: its address can't be read."""
        self._open.pop(key, None)

    def end_quiet(self, now_ms: int) -> None:
        """End those of whom nothing was heard for long."""
        for key in list(self._quiet(now_ms - self._quiet_ms)):
            self.end(key)

    def end_all(self) -> None:
        """End every one: the edge itself ends."""
        for key in list(self._open):
            self.end(key)

    @property
    def ended(self) -> int:
        """How many have ended that nobody has taken."""
        return len(self._ended)

    def take_ended(self, most: int) -> list[Connection]:
        """Take out up to ``most`` that have ended, the oldest first."""
        taken, self._ended = self._ended[:most], self._ended[most:]
        return taken

    def _quiet(self, before_ms: int) -> Iterator[Name]:
        for key, connection in self._open.items():
            if connection.last_ms > before_ms:
                return
            yield key
