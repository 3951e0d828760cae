"""Exim's ``${readsocket}``: one line in, the reply or nothing out, and the end of the connection, which Exim waits for.

The line: ``IP [PORT [MESSAGE [RECIPIENT]]]``. With a port, requests of one connection and message belong together; without
one each is a message of its own. Nothing means no opinion, which is also what Exim has when the edge is down, if its
fifth argument says so.
"""

from __future__ import annotations

from engine.edge.protocols.session import LineSession

PARTS = 4


class ReadsocketSession(LineSession):
    """The conversation about one request."""

    def answer(self, line: bytes, now_ms: int) -> bytes:
        """The reply's line, or nothing."""
        parts = line.decode("latin-1").split()
        if not 1 <= len(parts) <= PARTS:
            return self.malformed()
        ip, port, message, recipient = parts + [""] * (PARTS - len(parts))
        self.ended = True
        if not port:
            return self.desk.line(self.desk.ask_once(ip, now_ms), ip).encode()
        answer = self.desk.ask(f"{ip} {port}", ip, message, recipient, now_ms)
        return self.desk.line(answer, ip).encode()
