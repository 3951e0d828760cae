"""Track the connections in a log and yield their events in the order in which the connections began.

A connection's event is known when it has ended, and its time is its start. So events wait in a heap until every connection
that began earlier is settled. A connection without an end is settled once no line of it came for `idle_ms`. Limit: 100,000
connections wait; beyond it the oldest is output as it is.

Outcome: *accepted* if a message was accepted, else *rejected* if anything was refused permanently (5xx), else *deferred* if
anything was refused temporarily (4xx). A connection that offered no mail (lost, probed, refused a login) is one rejected
attempt: it used the server without result, and bursts of such connections are to be detected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush

from engine.imports.counts import ImportCounts
from topics.events import ACCEPTED, DEFERRED, MAX_MESSAGES, REJECTED, ConnectionEvent
from topics.keys import key_of

MAX_WAITING = 100_000
NEVER_MS = 1 << 62


@lru_cache(maxsize=65536)
def address_text(address: bytes) -> str:
    """Return the address as text, "" if an event can't have it."""
    try:
        text = address.decode("ascii")
        key_of(text)
    except ValueError:
        return ""
    return text


@dataclass(slots=True)
class LoggedConnection:
    """One connection, as far as the log has it."""

    opened_ms: int
    ip: str
    mta: str
    key: bytes = b""
    last_seen_ms: int = 0
    settled_ms: int = NEVER_MS  # a closed connection waits until then for its `awaited` lines
    closed: bool = False
    handed_over: bool = False  # from postscreen to smtpd
    messages: int = 0  # accepted
    refused_at_end: int = 0  # of those, refused after the end of their data
    rejections: int = 0  # refusals with 5xx
    deferrals: int = 0  # refusals with 4xx
    reinjected: int = 0  # of the messages, those that a content filter brought back
    is_shared: bool = False  # a proxy's connection that served several clients, so its totals are of all
    refused_recipients: int = 0  # refusals of one recipient
    recipients: int = 0  # of the `counted` messages
    counted: int = 0  # messages whose number of recipients is in the log
    offered_messages: int = 0  # total in the log's own summary, 0 without one
    offered_recipients: int = 0
    awaited: list[bytes] = field(default_factory=list)  # names of messages with a later line

    def refuse(self, code: bytes, *, recipient: bool = False) -> None:
        """Count a refusal by the first digit of its reply code."""
        if code == b"4":
            self.deferrals += 1
        else:
            self.rejections += 1
        self.refused_recipients += recipient

    def has_results(self) -> bool:
        """Return True if anything was accepted or refused."""
        return bool(self.messages or self.rejections or self.deferrals)

    def event(self) -> ConnectionEvent:
        """Return the connection as an event."""
        if self.messages > self.refused_at_end:
            outcome = ACCEPTED
        elif self.deferrals and not self.rejections:
            outcome = DEFERRED
        else:
            outcome = REJECTED
        messages = max(1, self.messages, self.offered_messages)
        reached = self.recipients + self.messages - self.counted + self.refused_recipients
        recipients = self.offered_recipients or reached or messages
        return ConnectionEvent(
            self.opened_ms, self.ip, self.mta, min(messages, MAX_MESSAGES), min(recipients, MAX_MESSAGES), outcome
        )


class ConnectionOrder:
    """The connections of one import, in the order in which they began."""

    def __init__(self, counts: ImportCounts, idle_ms: int) -> None:
        self.may_have_settled = False  # since the last call of `drain_settled`
        self.live: dict[bytes, LoggedConnection] = {}  # open ones by key
        self.awaited: dict[bytes, LoggedConnection] = {}  # by name of a message with a later line
        self._counts = counts
        self._idle_ms = idle_ms
        self._heap: list[tuple[int, int, LoggedConnection]] = []
        self._number = 0

    def open(self, connection: LoggedConnection) -> LoggedConnection:
        """Begin a connection. An open one of the same key lost its end in the log and is closed."""
        before = self.live.get(connection.key)
        if before:
            self._counts.without_end += 1
            self.close(before, connection.opened_ms)
        connection.last_seen_ms = connection.opened_ms
        self.live[connection.key] = connection
        heappush(self._heap, (connection.opened_ms, self._number, connection))
        self._number += 1
        return connection

    def close(self, connection: LoggedConnection, settled_ms: int) -> None:
        """End a connection. Its event waits for the lines in `awaited` until `settled_ms`."""
        del self.live[connection.key]
        connection.closed = True
        connection.settled_ms = settled_ms
        self.may_have_settled = True

    def await_line(self, connection: LoggedConnection, name: bytes) -> None:
        """Expect a later line, which is found by `name`, before a connection's event is output."""
        connection.awaited.append(name)
        self.awaited[name] = connection

    def end_wait(self, name: bytes) -> LoggedConnection | None:
        """Return the connection that awaits a line, which has arrived; None without one."""
        connection = self.awaited.pop(name, None)
        if connection:
            connection.awaited.remove(name)
            self.may_have_settled = True
        return connection

    def drain_settled(self, now_ms: int) -> Iterator[ConnectionEvent]:
        """Yield the events that are settled at `now_ms` and have no unsettled connection before them, in time order."""
        self.may_have_settled = False
        heap = self._heap
        while heap:
            connection = heap[0][2]
            if not self._is_settled(connection, now_ms) and len(heap) <= MAX_WAITING:
                return
            heappop(heap)
            yield from self._remove(connection)

    def flush(self) -> Iterator[ConnectionEvent]:
        """Yield the remaining events, at the end of the logs."""
        while self._heap:
            yield from self._remove(heappop(self._heap)[2])

    def _is_settled(self, connection: LoggedConnection, now_ms: int) -> bool:
        if connection.closed:
            return not connection.awaited or now_ms >= connection.settled_ms
        return now_ms - connection.last_seen_ms > self._idle_ms

    def _remove(self, connection: LoggedConnection) -> Iterator[ConnectionEvent]:
        if not connection.closed:
            self._counts.without_end += 1
            del self.live[connection.key]
        for name in connection.awaited:
            self.awaited.pop(name, None)
        if connection.handed_over:
            self._counts.handed_over += 1
        elif connection.reinjected and connection.reinjected == connection.messages:
            self._counts.reinjected += 1
        elif connection.ip:
            yield connection.event()
        else:
            self._counts.without_address += 1
