"""Sendmail socketmap, as Postfix speaks it: netstrings ``NAME KEY`` in, ``OK VALUE`` or ``NOTFOUND `` out.

Postfix asks for the host name, then for the address, never for prefixes; a key that isn't an address is not found. The value is
the right-hand side of an access table. A request names neither message nor connection, so each one about an address counts as a
message. Prefer the policy protocol where there is a choice.
"""

from __future__ import annotations

import re

from engine.edge.protocols.session import MalformedRequest, ProtocolSession, Request
from topics.networks import address_of

LENGTH = re.compile(rb"(0|[1-9]\d{0,5}):")
LENGTH_DIGITS = 6
NOT_FOUND = "NOTFOUND "


def is_address(text: str) -> bool:
    """Return True if a table's key is an address, not a host name or a part of one."""
    try:
        address_of(text)
    except ValueError:
        return False
    return True


class SocketmapSession(ProtocolSession):
    """A conversation with one client of the map."""

    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the content of the next netstring."""
        match = LENGTH.match(buffer, start)
        if match is None:
            begun = buffer[start:]
            if begun and not (begun.isdigit() and len(begun) <= LENGTH_DIGITS):
                raise MalformedRequest
            return None
        begin, end = match.end(), match.end() + int(match[1])
        if end - begin > self.limit or buffer[end : end + 1] not in (b",", b""):
            raise MalformedRequest
        return None if len(buffer) <= end else Request(buffer[begin:end], end + 1)

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the netstring that answers one request."""
        _, _, key = request.decode("latin-1").partition(" ")
        reply = self.service.reply(self.service.check_once(key, now_ms), key) if is_address(key) else ""
        response = f"OK {reply}" if reply else NOT_FOUND
        return f"{len(response)}:{response},".encode()
