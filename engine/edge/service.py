"""The desk that all protocols go to: look-up, shadow mode, counting, and the connection's event.

It does no I/O and reads no clock: sessions hand in the time with each request.
"""

from __future__ import annotations

from collections import Counter, deque

from engine.edge.connections import Connections, Name
from engine.edge.lookup import (
    EXCESS,
    EXEMPT,
    NO_OPINION,
    SHADOW,
    STALE,
    UNKNOWN,
    UNREADABLE,
    WITHIN,
    Answer,
    lookup,
)
from engine.edge.reply import Reply
from engine.edge.shadow import Shadow, reason_of
from engine.edge.table import Table
from topics.overrides import CLIENT, HELO

WHYS = (UNKNOWN, EXEMPT, WITHIN, STALE, UNREADABLE, EXCESS, SHADOW)
REMARKS = 1000
NO_SHADOW = Shadow()
OF_ENGINE, OF_EDGE = "engine", "edge"


class Desk:
    """``shadow``: what it holds isn't deferred. What would have been said, in this shadow or in the engine's, is counted in
    ``shadowed``, by whose shadow it was and the decision's reason, and kept in ``remarks`` for the log."""

    def __init__(self, table: Table, connections: Connections, reply: Reply, shadow: Shadow = NO_SHADOW) -> None:
        self.table, self.connections, self.reply, self.shadow = table, connections, reply, shadow
        self.answered = dict.fromkeys(WHYS, 0)
        self.shadowed: Counter[tuple[str, str]] = Counter()
        self.malformed = 0
        self.remarks: deque[str] = deque(maxlen=REMARKS)

    def look(self, ip: str, now_ms: int) -> Answer:
        """Only look: no token is taken, nothing counted as a connection."""
        return self._answer(ip, now_ms, keep=True)

    def greet(self, key: Name, ip: str, now_ms: int) -> Answer:
        """A connection is there, without a message so far: deferred only if a message would be."""
        answer = self._answer(ip, now_ms, keep=True)
        if answer.why != UNREADABLE:
            self.connections.heard(key, ip, now_ms)
        return answer

    def ask(self, key: Name, ip: str, message: Name, recipient: Name, now_ms: int) -> Answer:
        """May this message of the connection ``key`` pass? ``message`` names it; ``recipient``: empty if none is known."""
        connection = self.connections.heard(key, ip, now_ms)
        answer = connection.answer
        if answer is None or connection.message != message:
            answer = self._answer(ip, now_ms)
            if answer.why == UNREADABLE:
                self.connections.forget(key)
                return answer
            connection.begin(message, answer, deferred=answer.why == EXCESS)
        if recipient and recipient != connection.recipient:
            connection.add(recipient)
        return answer

    def spares(self, key: Name, client_name: str, helo_name: str, now_ms: int) -> bool:
        """Whether what was deferred just now, on the connection ``key``, passes because of a name that the client has;
        ``client_name``: found from its address and back again, ``helo_name``: what it says of itself."""
        table = self.table
        if not (table.is_name_exempt(CLIENT, client_name, now_ms) or table.is_name_exempt(HELO, helo_name, now_ms)):
            return False
        connection = self.connections.heard(key, "", now_ms)
        if connection.answer is not None and connection.answer.why == EXCESS:
            connection.pardon(NO_OPINION[EXEMPT])
        self.answered[EXCESS] -= 1
        self.answered[EXEMPT] += 1
        return True

    def ask_once(self, ip: str, now_ms: int) -> Answer:
        """As `ask`, for protocols that name neither connection nor message: each request is a connection of one message."""
        answer = self.ask(ip, ip, "once", "", now_ms)
        self.connections.end(ip)
        return answer

    def line(self, answer: Answer, ip: str) -> str:
        """The reply if the answer defers, else nothing."""
        return self.reply.line(answer, ip) if answer.why == EXCESS else ""

    def _answer(self, ip: str, now_ms: int, *, keep: bool = False) -> Answer:
        answer = lookup(ip, self.table, now_ms, keep=keep)
        whose = OF_ENGINE
        if answer.why == EXCESS and self.shadow.holds(answer, ip):
            whose, answer = OF_EDGE, answer._replace(why=SHADOW)
        self.answered[answer.why] += 1
        if answer.why == SHADOW:
            self.shadowed[whose, reason_of(answer)] += 1
            self.remarks.append(f"{whose}: {self.reply.line(answer, ip)}")
        return answer
