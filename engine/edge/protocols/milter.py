"""The milter protocol on the wire (version 2 to 6), as Sendmail and Postfix speak it; libmilter can't refuse at connect.

A packet is four octets of length, a command, its content. Asked for: connect, MAIL and RCPT; everything else is declined in
the negotiation and answered with "continue" if it comes anyway. Each MAIL takes a token, or hears the 451; RCPT only counts.
Nobody is refused at connect: Postfix would keep the reply until MAIL, and Sendmail replace it by a text of its own.

An address of another family (a UNIX socket, a mail submitted locally) is no opinion.
"""

from __future__ import annotations

import itertools
import struct

from engine.edge.protocols.session import REQUEST_OCTETS, Session
from engine.edge.service import Desk

HEAD = struct.Struct(">Ic")
OFFER = struct.Struct(">III")
LENGTH_OCTETS = 4
VERSIONS = (2, 6)
# What we do without: HELO, body, headers, end of headers, unknown commands, DATA.
DECLINED = 0x02 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200
CONTINUE = b"\0\0\0\1c"
ANSWERED = b"HMRTLNBEU"
SILENT = b"DA"
MOST_OCTETS = 1 << 17  # a body chunk that nobody asked for

_sessions = itertools.count()


def packet(command: bytes, content: bytes = b"") -> bytes:
    """One packet."""
    return HEAD.pack(len(content) + 1, command) + content


def client_of(content: bytes) -> str:
    """The address in a connect packet (host name, NUL, family, port, address, NUL); "" for other families."""
    _, _, rest = content.partition(b"\0")
    if rest[:1] not in (b"4", b"6") or len(rest) < 4:
        return ""
    return rest[3:].partition(b"\0")[0].decode("latin-1").removeprefix("IPv6:")


class MilterSession(Session):
    """The conversation with one MTA process, over one client's connection or, after ``K``, several."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, max(limit, MOST_OCTETS))
        self._number = next(_sessions)
        self._clients = 0
        self._forget()

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole packets are answered in order."""
        octets = self.rest + octets
        out, at = b"", 0
        while len(octets) - at >= LENGTH_OCTETS and not self.ended:
            length = int.from_bytes(octets[at : at + LENGTH_OCTETS])
            if not 1 <= length <= self.limit:
                return out + self.malformed()
            end = at + LENGTH_OCTETS + length
            if end > len(octets):
                break
            out += self._answer(octets[at + 4 : at + 5], octets[at + 5 : end], now_ms)
            at = end
        self.rest = octets[at:]
        return out

    def close(self) -> None:
        """The MTA has gone, and its client."""
        self.desk.connections.end(self._key)

    def _forget(self) -> None:
        self._key = self._ip = ""
        self._messages = 0

    def _answer(self, command: bytes, content: bytes, now_ms: int) -> bytes:
        if command == b"O":
            return self._negotiate(content)
        if command in (b"Q", b"K"):
            self.close()
            self._forget()
            self.ended = command == b"Q"
            return b""
        if command == b"C":
            return self._connect(content)
        if command == b"M" and self._ip:
            self._messages += 1
            return self._refer(now_ms, "")
        if command == b"R" and self._messages:
            return self._refer(now_ms, content.partition(b"\0")[0].decode("latin-1"))
        if command in SILENT:
            return b""
        return CONTINUE if command in ANSWERED else self.malformed()

    def _negotiate(self, content: bytes) -> bytes:
        if len(content) < OFFER.size:
            return self.malformed()
        version, _, declinable = OFFER.unpack_from(content)
        if version < VERSIONS[0]:
            return self.malformed()
        return packet(b"O", OFFER.pack(min(version, VERSIONS[1]), 0, declinable & DECLINED))

    def _connect(self, content: bytes) -> bytes:
        self.close()
        self._forget()
        self._clients += 1
        self._ip, self._key = client_of(content), f"milter {self._number} {self._clients}"
        return CONTINUE

    def _refer(self, now_ms: int, recipient: str) -> bytes:
        line = self.desk.line(self.desk.ask(self._key, self._ip, str(self._messages), recipient, now_ms), self._ip)
        # A percent sign is doubled: Sendmail and Postfix read the text as a format.
        return packet(b"y", line.replace("%", "%%").encode() + b"\0") if line else CONTINUE
