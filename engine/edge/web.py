"""HTTP in front of the API: aiohttp's server, with the edge's limits.

A request, its headers included, must be complete and answered within `ClientLimits.request_timeout_s` of its first byte.
aiohttp itself would wait without a bound for the rest of a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from engine.edge.protocols.http import ApiRequest, HttpApi
from engine.edge.servers import ClientProtocol, Clients, now_ms


class HttpClient(ClientProtocol):
    """A client that speaks HTTP to aiohttp's protocol `inner`."""

    def __init__(self, inner: asyncio.Protocol, clients: Clients) -> None:
        super().__init__(clients)
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the client."""
        super().connection_made(transport)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Start the request's time limit with its first byte."""
        self.is_active = True
        self.pending_since_s = self.pending_since_s or self.clock()
        self._inner.data_received(data)

    def on_response(self) -> None:
        """End the request's time limit."""
        self.pending_since_s = 0.0

    def eof_received(self) -> None:
        """Pass the end of the input on."""
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Stop reading requests, because the client doesn't read its responses."""
        super().pause_writing()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Read requests again."""
        super().resume_writing()
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the client."""
        super().connection_lost(exc)
        self._inner.connection_lost(exc)


def http_protocol(api: HttpApi, clients: Clients, request_bytes: int) -> Callable[[], asyncio.Protocol]:
    """Return a factory that makes a protocol for each client. A body over `request_bytes` gets the status 413."""
    limits = clients.limits

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if (request.content_length or 0) > request_bytes:
            return web.Response(status=413)
        body = await request.read()
        response = api.respond(ApiRequest(request.method, request.path, request.query, body), now_ms())
        if request.transport is not None:
            cast(HttpClient, request.transport.get_protocol()).on_response()
        return web.Response(status=response.status, body=response.body, content_type=response.content_type)

    server = web.Server(
        respond,
        keepalive_timeout=min(75.0, limits.idle_timeout_s),
        lingering_time=0,
        access_log=None,
        max_line_size=8190,
    )
    return lambda: HttpClient(server(), clients)
