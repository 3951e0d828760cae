"""What a protocol is to the servers: a session that takes octets and gives octets, and says when it has ended.

A session that ends without an answer leaves the decision to the MTA, whose configuration fails open. Sessions hold at most
``limit`` octets of a request; more is malformed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from engine.edge.service import Desk

REQUEST_OCTETS = 16_384


class Session(ABC):
    """One client's conversation with the desk. ``ended``: nothing more is to be read; what was returned is still to be sent.
    ``rest``: octets of a request that has begun and isn't whole."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        self.desk, self.limit = desk, limit
        self.ended = False
        self.rest = b""

    @abstractmethod
    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Octets from the client; the octets to send."""

    def close(self) -> None:  # noqa: B027 (most protocols have nothing to do then)
        """The client has gone."""

    def malformed(self) -> bytes:
        """End for a request that breaks the protocol: counted, not answered."""
        self.desk.malformed += 1
        self.ended = True
        return b""


class LineSession(Session):
    """Requests that are lines, each answered on its own."""

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole lines are answered, the last one may wait for its rest."""
        *lines, self.rest = (self.rest + octets).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            if len(line) > self.limit:
                return b"".join(out) + self.malformed()
            out.append(self.answer(line.removesuffix(b"\r"), now_ms))
            if self.ended:
                return b"".join(out)
        if len(self.rest) > self.limit:
            return b"".join(out) + self.malformed()
        return b"".join(out)

    @abstractmethod
    def answer(self, line: bytes, now_ms: int) -> bytes:
        """The answer to one line, without its end."""
