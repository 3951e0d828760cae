"""The interface between a protocol and the servers: a session takes bytes, returns bytes, and says when it has ended.

Parsing is separate from deciding. `next_request` splits the input into requests, and `respond` answers one of them. The peer's
fault is the exception `MalformedRequest`: it is counted, not answered, and ends the session. Without an answer the mail server
applies its own configuration, which lets mail pass.

A session buffers at most `limit` bytes of an incomplete request; a longer one is malformed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from engine.edge.service import EdgeService

REQUEST_BYTES = 16_384


class MalformedRequest(Exception):
    """The client broke the protocol."""


class Request(NamedTuple):
    """A complete request in a buffer."""

    content: bytes  # without its framing
    end: int  # index after the request


class ProtocolSession(ABC):
    """One client's conversation with the service."""

    def __init__(self, service: EdgeService, limit: int = REQUEST_BYTES) -> None:
        self.service, self.limit = service, limit
        self.ended = False  # no further input is read; the reply that was returned is still sent
        self.rest = b""  # the beginning of an incomplete request

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Return the replies to all requests that `data` completes, in order."""
        buffer, replies, start = self.rest + data, b"", 0
        try:
            while not self.ended and (request := self.next_request(buffer, start)) is not None:
                replies += self.respond(request.content, now_ms)
                start = request.end
        except MalformedRequest:
            self.service.count_malformed()
            self.ended = True
        self.rest = b"" if self.ended else buffer[start:]
        return replies

    @abstractmethod
    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the request that begins at `start`, None if it is incomplete. Raises `MalformedRequest`."""

    @abstractmethod
    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply to one request. Raises `MalformedRequest`."""

    def close(self) -> None:  # noqa: B027 (most protocols have nothing to do then)
        """End the session, because the client has disconnected."""


class LineSession(ProtocolSession):
    """A session whose requests are lines, which end with LF or CR LF."""

    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the next line without its end."""
        end = buffer.find(b"\n", start)
        if (len(buffer) if end < 0 else end) - start > self.limit:
            raise MalformedRequest
        return None if end < 0 else Request(buffer[start:end].removesuffix(b"\r"), end + 1)
