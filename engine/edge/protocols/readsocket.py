"""Exim's ``${readsocket}``: one line in, the reply or nothing out, and the end of the connection, which Exim waits for.

The line: ``IP [PORT [MESSAGE [RECIPIENT]]]``. With a port, requests about one connection and message are counted once;
without one, each request is a message of its own. An empty answer is no opinion. Exim also has an empty answer when the edge
is down, if the fifth argument of readsocket says so.
"""

from __future__ import annotations

from engine.edge.protocols.session import LineSession, MalformedRequest

PARTS = 4


class ReadsocketSession(LineSession):
    """A conversation of one request."""

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply's line, or nothing, and end the session."""
        parts = request.decode("latin-1").split()
        if not 1 <= len(parts) <= PARTS:
            raise MalformedRequest
        ip, port, message, recipient = parts + [""] * (PARTS - len(parts))
        self.ended = True
        if not port:
            return self.service.reply(self.service.check_once(ip, now_ms), ip).encode()
        result = self.service.check(f"{ip} {port}", ip, message, recipient, now_ms)
        return self.service.reply(result, ip).encode()
