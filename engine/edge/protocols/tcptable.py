"""Postfix tcp_table: ``get KEY`` in, ``200 VALUE`` or ``500 not found`` out, a line each, %XX where a character needs it.

A key that isn't an address is not found (Postfix asks for the host name first); likewise every key without an opinion,
and every ``put``. Each request about an address counts as a message, as in `socketmap`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from engine.edge.protocols.session import LineSession, MalformedRequest
from engine.edge.protocols.socketmap import is_address

NOT_FOUND = b"500 not found\n"
PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class TcpTableSession(LineSession):
    """A conversation with one client of the table."""

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the response line to one request."""
        command, _, key = request.decode("latin-1").partition(" ")
        if command not in ("get", "put"):
            raise MalformedRequest
        ip = unquote(key, "latin-1")
        if command == "put" or not is_address(ip):
            return NOT_FOUND
        reply = self.service.reply(self.service.check_once(ip, now_ms), ip)
        return f"200 {quote(reply, safe=PLAIN)}\n".encode() if reply else NOT_FOUND
