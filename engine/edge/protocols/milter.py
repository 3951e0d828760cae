"""The milter protocol on the wire (version 2 to 6), as Sendmail and Postfix speak it; libmilter cannot refuse at connect.

A packet is four bytes of length, a command, its content. The negotiation asks for connect, MAIL and RCPT. It declines all other
commands, which get "continue" if they are sent all the same. Each MAIL consumes a token or gets the 451; RCPT only counts. No
client is refused at connect: Postfix would keep the reply until MAIL, and Sendmail would replace its text.

An address of another family (a UNIX socket, a locally submitted mail) is no opinion.
"""

from __future__ import annotations

import itertools
import struct

from engine.edge.protocols.session import REQUEST_BYTES, MalformedRequest, ProtocolSession, Request
from engine.edge.service import EdgeService

HEAD = struct.Struct(">Ic")
OFFER = struct.Struct(">III")
LENGTH_BYTES = 4
VERSIONS = (2, 6)
# Declined in the negotiation: HELO, body, headers, end of headers, unknown commands, DATA.
DECLINED = 0x02 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200
CONTINUE = b"\0\0\0\1c"
ANSWERED = b"HMRTLNBEU"
SILENT = b"DA"
MAX_BYTES = 1 << 17  # a body chunk, sent although declined

_sessions = itertools.count()


def packet(command: bytes, content: bytes = b"") -> bytes:
    """Return one packet."""
    return HEAD.pack(len(content) + 1, command) + content


def client_of(content: bytes) -> str:
    """Return the address in a connect packet (host name, NUL, family, port, address, NUL); "" for other families."""
    _, _, rest = content.partition(b"\0")
    if rest[:1] not in (b"4", b"6") or len(rest) < 4:
        return ""
    return rest[3:].partition(b"\0")[0].decode("latin-1").removeprefix("IPv6:")


class MilterSession(ProtocolSession):
    """A conversation with one mail server process, about one client's connection or, with ``K``, several in turn."""

    def __init__(self, service: EdgeService, limit: int = REQUEST_BYTES) -> None:
        super().__init__(service, max(limit, MAX_BYTES))
        self._number = next(_sessions)
        self._clients = 0
        self._forget_client()

    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the next packet without its length."""
        begin = start + LENGTH_BYTES
        if len(buffer) < begin:
            return None
        length = int.from_bytes(buffer[start:begin])
        if not 1 <= length <= self.limit:
            raise MalformedRequest
        end = begin + length
        return None if end > len(buffer) else Request(buffer[begin:end], end)

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the packet that answers a command, empty for commands without an answer."""
        command, content = request[:1], request[1:]
        if command == b"O":
            return self._negotiate(content)
        if command in (b"Q", b"K"):
            self.close()
            self._forget_client()
            self.ended = command == b"Q"
            return b""
        if command == b"C":
            return self._connect(content)
        if command == b"M" and self._ip:
            self._messages += 1
            return self._check(now_ms, "")
        if command == b"R" and self._messages:
            return self._check(now_ms, content.partition(b"\0")[0].decode("latin-1"))
        if command in SILENT:
            return b""
        if command not in ANSWERED:
            raise MalformedRequest
        return CONTINUE

    def close(self) -> None:
        """End the client's connection."""
        self.service.connections.end(self._key)

    def _forget_client(self) -> None:
        self._key = self._ip = ""
        self._messages = 0

    def _negotiate(self, content: bytes) -> bytes:
        if len(content) < OFFER.size:
            raise MalformedRequest
        version, _, declinable = OFFER.unpack_from(content)
        if version < VERSIONS[0]:
            raise MalformedRequest
        return packet(b"O", OFFER.pack(min(version, VERSIONS[1]), 0, declinable & DECLINED))

    def _connect(self, content: bytes) -> bytes:
        self.close()
        self._forget_client()
        self._clients += 1
        self._ip, self._key = client_of(content), f"milter {self._number} {self._clients}"
        return CONTINUE

    def _check(self, now_ms: int, recipient: str) -> bytes:
        result = self.service.check(self._key, self._ip, str(self._messages), recipient, now_ms)
        reply = self.service.reply(result, self._ip)
        # A percent sign is doubled: Sendmail and Postfix read the text as a format.
        return packet(b"y", reply.replace("%", "%%").encode() + b"\0") if reply else CONTINUE
