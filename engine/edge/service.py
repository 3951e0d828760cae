"""The service behind all protocols: look-up, shadow mode, counters, and the connection's event.

It does no I/O and reads no clock; sessions pass the time with each request.
"""

from __future__ import annotations

from collections import Counter, deque

from engine.edge.connections import ConnectionTracker, Name
from engine.edge.lookup import (
    EXCESS,
    EXEMPT,
    NO_OPINION,
    SHADOW,
    STALE,
    UNKNOWN,
    UNREADABLE,
    WITHIN,
    LookupResult,
    lookup,
)
from engine.edge.reply import ReplyText
from engine.edge.shadow import EdgeShadow, reason_of
from engine.edge.table import DecisionTable
from topics.overrides import CLIENT, HELO

WHYS = (UNKNOWN, EXEMPT, WITHIN, STALE, UNREADABLE, EXCESS, SHADOW)
MAX_LOG_LINES = 1000
NO_SHADOW = EdgeShadow()
OF_ENGINE, OF_EDGE = "engine", "edge"


class EdgeService:
    """Answers requests from a decision table and counts the answers.

    A deferral in shadow, the edge's own or the engine's, passes instead. It is counted in `shadowed` by owner of the shadow
    and reason of the decision, and its reply is appended to `shadow_log`, which keeps the last `MAX_LOG_LINES`.
    """

    def __init__(
        self,
        table: DecisionTable,
        connections: ConnectionTracker,
        reply_text: ReplyText,
        shadow: EdgeShadow = NO_SHADOW,
    ) -> None:
        self.table, self.connections, self.reply_text, self.shadow = table, connections, reply_text, shadow
        self.answered = dict.fromkeys(WHYS, 0)
        self.shadowed: Counter[tuple[str, str]] = Counter()
        self.malformed = 0
        self.shadow_log: deque[str] = deque(maxlen=MAX_LOG_LINES)

    def peek(self, ip: str, now_ms: int) -> LookupResult:
        """Return the answer for a message that isn't sent: consumes no token and records no connection."""
        return self._look_up(ip, now_ms, consume=False)

    def on_connect(self, key: Name, ip: str, now_ms: int) -> LookupResult:
        """Record a connection without a message so far. Return the answer that a message would get; consumes no token."""
        result = self._look_up(ip, now_ms, consume=False)
        if result.why != UNREADABLE:
            self.connections.touch(key, ip, now_ms)
        return result

    def check(self, key: Name, ip: str, message: Name, recipient: Name, now_ms: int) -> LookupResult:
        """Return the answer for a message of the connection `key`.

        Only the first request about a message consumes a token; later ones get the same answer. `recipient` is empty if it is
        unknown.
        """
        connection = self.connections.touch(key, ip, now_ms)
        result = connection.result
        if result is None or connection.message != message:
            result = self._look_up(ip, now_ms)
            if result.why == UNREADABLE:
                self.connections.forget(key)
                return result
            connection.begin_message(message, result, deferred=result.why == EXCESS)
        if recipient and recipient != connection.recipient:
            connection.add_recipient(recipient)
        return result

    def check_once(self, ip: str, now_ms: int) -> LookupResult:
        """Return the answer for a request that names neither connection nor message: a connection with one message."""
        result = self.check(ip, ip, "once", "", now_ms)
        self.connections.end(ip)
        return result

    def exempt_by_name(self, key: Name, client_name: str, helo_name: str, now_ms: int) -> bool:
        """Return True if a name of the client is exempt; then the message just deferred on connection `key` passes.

        `client_name` is verified by DNS in both directions; `helo_name` is the client's own claim.
        """
        table = self.table
        if not (table.is_name_exempt(CLIENT, client_name, now_ms) or table.is_name_exempt(HELO, helo_name, now_ms)):
            return False
        connection = self.connections.touch(key, "", now_ms)
        if connection.result is not None and connection.result.why == EXCESS:
            connection.reverse_deferral(NO_OPINION[EXEMPT])
        self.answered[EXCESS] -= 1
        self.answered[EXEMPT] += 1
        return True

    def reply(self, result: LookupResult, ip: str) -> str:
        """Return the whole reply if the result defers, else an empty string."""
        return self.reply_text.line(result, ip) if result.why == EXCESS else ""

    def count_malformed(self) -> None:
        """Count a request that breaks its protocol."""
        self.malformed += 1

    def _look_up(self, ip: str, now_ms: int, *, consume: bool = True) -> LookupResult:
        result = lookup(ip, self.table, now_ms, consume=consume)
        owner = OF_ENGINE
        if result.why == EXCESS and self.shadow.covers(result, ip):
            owner, result = OF_EDGE, result._replace(why=SHADOW)
        self.answered[result.why] += 1
        if result.why == SHADOW:
            self.shadowed[owner, reason_of(result)] += 1
            self.shadow_log.append(f"{owner}: {self.reply_text.line(result, ip)}")
        return result
