"""A condition, predicates of visibility, and a receiver of webhooks, for tests of alerts."""

from __future__ import annotations

import asyncio

from aiohttp import web

from engine.alerts.channels import (
    AlertMessage,
)
from engine.alerts.conditions import Condition

LAG = Condition("lag 0", "lag", "partition 0 lags", "caught up")


def all_visible(kind: str, name: str) -> bool:
    return True


def none_visible(kind: str, name: str) -> bool:
    return False


MESSAGE = AlertMessage("[tidegate] lag 0", "partition 0 lags", {"id": "0123", "condition": "lag"})


class Receiver:
    """A webhook's receiver: replies with the next of ``statuses``, 200 when they are used up."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.received = asyncio.Event()

    async def respond(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        self.received.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.requests) < count:
                self.received.clear()
                await self.received.wait()
