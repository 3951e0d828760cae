"""HTTP around the pages: aiohttp's server, with the edge's limits.

A request, its headers too, must be whole and answered within `Limits.request_timeout_s` of its first octet: aiohttp itself
would wait for ever for the rest of a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from engine.edge.protocols.http import Pages, Question
from engine.edge.servers import Client, Clients, now_ms


class HttpClient(Client):
    """A client that speaks HTTP, to aiohttp's protocol ``spoken``."""

    def __init__(self, spoken: asyncio.Protocol, clients: Clients) -> None:
        super().__init__(clients)
        self._spoken = spoken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._spoken.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Octets of a request have come."""
        self.heard = True
        self.waiting_since_s = self.waiting_since_s or self.clock()
        self._spoken.data_received(data)

    def answered(self) -> None:
        """Its request was whole and has its answer."""
        self.waiting_since_s = 0.0

    def eof_received(self) -> None:
        """It sends no more."""
        self._spoken.eof_received()

    def pause_writing(self) -> None:
        """It doesn't take its answers."""
        super().pause_writing()
        self._spoken.pause_writing()

    def resume_writing(self) -> None:
        """It has taken them."""
        super().resume_writing()
        self._spoken.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        super().connection_lost(exc)
        self._spoken.connection_lost(exc)


def web_protocol(pages: Pages, clients: Clients, request_octets: int) -> Callable[[], asyncio.Protocol]:
    """Makes a protocol for each client that connects."""
    limits = clients.limits

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if (request.content_length or 0) > request_octets:
            return web.Response(status=413)
        body = await request.read()
        response = pages.answer(Question(request.method, request.path, request.query, body), now_ms())
        if request.transport is not None:
            cast(HttpClient, request.transport.get_protocol()).answered()
        return web.Response(status=response.status, body=response.body, content_type=response.kind)

    server = web.Server(
        respond,
        keepalive_timeout=min(75.0, limits.idle_timeout_s),
        lingering_time=0,
        access_log=None,
        max_line_size=8190,
    )
    return lambda: HttpClient(server(), clients)
