"""Sendmail socketmap, as Postfix speaks it: netstrings ``NAME KEY`` in, ``OK VALUE`` or ``NOTFOUND `` out.

Postfix asks for the host name first and for the address then, never for prefixes; what is no address is not found. The
value is the right side of an access table. Neither message nor connection is named, so each request about an address
counts as a message: prefer the policy protocol where there is a choice.
"""

from __future__ import annotations

import re

from engine.edge.protocols.session import Session
from topics.networks import address_of

LENGTH = re.compile(rb"(0|[1-9]\d{0,5}):")
NOT_FOUND = "NOTFOUND "


def is_address(text: str) -> bool:
    """Whether a key of a table is an address (and not a host name or a part of one)."""
    try:
        address_of(text)
    except ValueError:
        return False
    return True


class SocketmapSession(Session):
    """The conversation with one client of the map."""

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole netstrings are answered in order."""
        octets = self.rest + octets
        out, at = b"", 0
        while (match := LENGTH.match(octets, at)) is not None:
            start, end = match.end(), match.end() + int(match[1])
            if end - start > self.limit or octets[end : end + 1] not in (b",", b""):
                return out + self.malformed()
            if len(octets) <= end:
                break
            out += self._answer(octets[start:end], now_ms)
            at = end + 1
        self.rest = octets[at:]
        begun = match is not None or (self.rest.isdigit() and len(self.rest) < 7) or not self.rest
        return out if begun else out + self.malformed()

    def _answer(self, request: bytes, now_ms: int) -> bytes:
        _, _, key = request.decode("latin-1").partition(" ")
        line = self.desk.line(self.desk.ask_once(key, now_ms), key) if is_address(key) else ""
        said = f"OK {line}" if line else NOT_FOUND
        return f"{len(said)}:{said},".encode()
