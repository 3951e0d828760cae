"""Postfix tcp_table: ``get KEY`` in, ``200 VALUE`` or ``500 not found`` out, a line each, %XX where a character needs it.

What is no address (Postfix asks for the host name first) is not found; so is everything when there is no opinion, and a
``put``. Each request about an address counts as a message, as in `socketmap`.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from engine.edge.protocols.session import LineSession
from engine.edge.protocols.socketmap import is_address

NOT_FOUND = b"500 not found\n"
PLAIN = "".join(chr(octet) for octet in range(0x21, 0x7F) if chr(octet) != "%")


class TcpTableSession(LineSession):
    """The conversation with one client of the table."""

    def answer(self, line: bytes, now_ms: int) -> bytes:
        """The answer to one request."""
        command, _, key = line.decode("latin-1").partition(" ")
        if command not in ("get", "put"):
            return self.malformed()
        ip = unquote(key, "latin-1")
        if command == "put" or not is_address(ip):
            return NOT_FOUND
        reply = self.desk.line(self.desk.ask_once(ip, now_ms), ip)
        return f"200 {quote(reply, safe=PLAIN)}\n".encode() if reply else NOT_FOUND
