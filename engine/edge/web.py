"""HTTP around the pages: aiohttp's server, with the edge's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from engine.edge.protocols.http import Pages, Question
from engine.edge.servers import Clients, now_ms


class Refusal(asyncio.Protocol):
    """A client too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Turn it away."""
        cast(asyncio.Transport, transport).abort()


def web_protocol(pages: Pages, clients: Clients, request_octets: int) -> Callable[[], asyncio.Protocol]:
    """Makes a protocol for each client that connects."""
    limits = clients.limits

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        if (request.content_length or 0) > request_octets:
            return web.Response(status=413)
        async with asyncio.timeout(limits.request_timeout_s):
            body = await request.read()
        response = pages.answer(Question(request.method, request.path, request.query, body), now_ms())
        return web.Response(status=response.status, body=response.body, content_type=response.kind)

    server = web.Server(
        respond,
        keepalive_timeout=min(75.0, limits.idle_timeout_s),
        lingering_time=0,
        access_log=None,
        max_line_size=8190,
    )

    def protocol() -> asyncio.Protocol:
        if len(server.connections) + len(clients.wires) >= limits.connections:
            clients.refused += 1
            return Refusal()
        return server()

    return protocol
