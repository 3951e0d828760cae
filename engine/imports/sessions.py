"""Connections under way in a log, and their events in the order in which the connections began.

A connection's event is known when it has ended, and its time is when it began; so events wait in a heap until everything
that began before them is settled. A connection without an end is settled when nothing was heard of it for `idle_ms`; at
most 100,000 events wait, then the eldest goes out as it stands.

What a connection counts as: *accepted* if a message was taken in, else *rejected* if anything was refused for good (5xx),
else *deferred* if anything was refused for the moment (4xx). A connection that offered no mail (lost, probed, refused a login)
is one rejected attempt: it used the server and nothing came of it, and bursts of such connections are what to notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush

from engine.imports.counts import Tally
from topics.events import ACCEPTED, DEFERRED, MOST_MESSAGES, REJECTED, ConnectionEvent
from topics.keys import key_of

MOST_WAITING = 100_000
NEVER_MS = 1 << 62


@lru_cache(maxsize=65536)
def address_text(address: bytes) -> str:
    """The address as text; "" when it is none that an event can have."""
    try:
        text = address.decode("ascii")
        key_of(text)
    except ValueError:
        return ""
    return text


@dataclass(slots=True)
class Session:
    """One connection. ``messages``: taken in; ``turned_down``: of those, refused at their end; ``rejections`` and
    ``deferrals``: refusals with 5xx and 4xx; ``refused_recipients``: refusals that were of one recipient;
    ``recipients`` of the ``counted`` messages whose log says how many; ``offered_messages`` and ``offered_recipients``:
    what the log itself sums up, 0 if it doesn't."""

    opened_ms: int
    ip: str
    mta: str
    key: bytes = b""
    heard_ms: int = 0
    settled_ms: int = NEVER_MS
    closed: bool = False
    handed_over: bool = False
    messages: int = 0
    turned_down: int = 0
    rejections: int = 0
    deferrals: int = 0
    refused_recipients: int = 0
    recipients: int = 0
    counted: int = 0
    offered_messages: int = 0
    offered_recipients: int = 0
    awaited: list[bytes] = field(default_factory=list)

    def refuse(self, code: bytes, *, recipient: bool = False) -> None:
        """Count a refusal by its reply code's first digit."""
        if code == b"4":
            self.deferrals += 1
        else:
            self.rejections += 1
        self.refused_recipients += recipient

    def event(self) -> ConnectionEvent:
        """The connection as an event."""
        if self.messages > self.turned_down:
            outcome = ACCEPTED
        elif self.deferrals and not self.rejections:
            outcome = DEFERRED
        else:
            outcome = REJECTED
        messages = max(1, self.messages, self.offered_messages)
        reached = self.recipients + self.messages - self.counted + self.refused_recipients
        recipients = self.offered_recipients or reached or messages
        return ConnectionEvent(
            self.opened_ms, self.ip, self.mta, min(messages, MOST_MESSAGES), min(recipients, MOST_MESSAGES), outcome
        )


class Timeline:
    """The sessions of one import in the order of their beginning; `ready` gives the events that nothing earlier holds up."""

    def __init__(self, tally: Tally, idle_ms: int) -> None:
        self.stirred = False
        """Whether a session was closed since `ready` was last asked."""
        self.live: dict[bytes, Session] = {}
        """The sessions under way by their key."""
        self.awaited: dict[bytes, Session] = {}
        """The sessions that a message's later line belongs to."""
        self._tally = tally
        self._idle_ms = idle_ms
        self._heap: list[tuple[int, int, Session]] = []
        self._number = 0

    def open(self, session: Session) -> Session:
        """Begin a session. One of the same key that is still under way has lost its end, and ends here."""
        before = self.live.get(session.key)
        if before:
            self._tally.unfinished += 1
            self.close(before, session.opened_ms)
        session.heard_ms = session.opened_ms
        self.live[session.key] = session
        heappush(self._heap, (session.opened_ms, self._number, session))
        self._number += 1
        return session

    def close(self, session: Session, settled_ms: int) -> None:
        """End a session. Its event waits for the messages in `awaited` until ``settled_ms``."""
        del self.live[session.key]
        session.closed = True
        session.settled_ms = settled_ms
        self.stirred = True

    def ready(self, now_ms: int) -> Iterator[ConnectionEvent]:
        """The events that are settled at ``now_ms`` with nothing earlier under way, in time order."""
        self.stirred = False
        heap = self._heap
        while heap:
            session = heap[0][2]
            if not self._settled(session, now_ms) and len(heap) <= MOST_WAITING:
                return
            heappop(heap)
            yield from self._leave(session)

    def flush(self) -> Iterator[ConnectionEvent]:
        """The events of everything that is left, at the end of the logs."""
        while self._heap:
            yield from self._leave(heappop(self._heap)[2])

    def _settled(self, session: Session, now_ms: int) -> bool:
        if session.closed:
            return not session.awaited or now_ms >= session.settled_ms
        return now_ms - session.heard_ms > self._idle_ms

    def _leave(self, session: Session) -> Iterator[ConnectionEvent]:
        if not session.closed:
            self._tally.unfinished += 1
            del self.live[session.key]
        for name in session.awaited:
            self.awaited.pop(name, None)
        if session.handed_over:
            self._tally.handed_over += 1
        elif session.ip:
            yield session.event()
        else:
            self._tally.without_address += 1
