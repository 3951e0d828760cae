"""The worker's HTTP server: aiohttp in the worker's own loop, between two blocks.

Orders are taken from whoever shows the token of `worker.http_token`, in a header, so that no other site's page can send it
along; without one the page only shows. Nothing here may hold the loop: a request's work is bounded, and at most
`MOST_REQUESTS` are at work, others hear 503. A place that is taken by another process is told in the log, and the worker works
without a page: mail matters more.

The page is three files of this package and needs nothing from elsewhere; its content policy forbids that, too.
"""

from __future__ import annotations

import errno
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files

import orjson
from aiohttp import web

from engine.config.load import Settings
from engine.edge.servers import places
from engine.metrics.exposition import exposition
from engine.overrides.changes import REFUSES
from engine.overrides.request import orders_of
from engine.overrides.store import order
from engine.web.peer_client import FORWARDED, PART
from engine.web.views import SHOWN, Views
from engine.worker.metrics import samples
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
MOST_REQUESTS = 32
MOST_OCTETS = 65_536
IDLE_S = 75.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SVG = "image/svg+xml"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(value: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json", headers=HEADERS)


def _file(name: str, kind: str) -> Page:
    body = (files("engine.web") / "page" / name).read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    return answer


class Site:
    """The server of one worker; ``views``: what its pages say."""

    def __init__(self, views: Views, settings: Settings) -> None:
        self.views, self._settings, self._listen = views, settings, settings.worker.http
        self._at_work = 0
        app = web.Application(client_max_size=MOST_OCTETS)
        pages = {
            "/metrics": self._metrics,
            "/health": self._health,
            "/v1/status": self._status,
            "/v1/config": self._config,
            "/v1/overview": self._overview,
            PART: self._part,
            "/v1/decisions": self._decisions,
            "/v1/movers": self._movers,
            "/v1/overrides": self._overrides,
            "/v1/senders/{address}": self._sender,
            "/v1/senders/{address}/plot.svg": self._plot,
            **{path: _file(*found) for path, found in FILES.items()},
        }
        app.add_routes([web.get(path, self._bounded(page)) for path, page in pages.items()])
        app.add_routes([web.post("/v1/overrides", self._bounded(self._order))])
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_S)

    async def start(self) -> None:
        """Listen, where that is possible."""
        await self._runner.setup()
        for place in places(self._listen):
            try:
                await web.TCPSite(self._runner, place.host, place.port).start()
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                    raise
                logger.warning(
                    "no page, status or metrics at %s:%d: %s; name another place in worker.http, or none",
                    *(place.host, place.port, error.strerror),
                )
        for host, port in self.listening:
            logger.info("page, status and metrics at http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @property
    def listening(self) -> list[tuple[str, int]]:
        """The places that it has got."""
        return [(host, port) for host, port, *_ in self._runner.addresses]

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    def _bounded(self, page: Page) -> Page:
        """The page, if not too many requests are at work; the asker's mistakes as an answer."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if self._at_work >= MOST_REQUESTS:
                return json_response({"error": "too many requests at once"}, 503)
            self._at_work += 1
            try:
                return await page(request)
            except OperatorError as error:
                return json_response({"error": str(error)}, 400)
            finally:
                self._at_work -= 1

        return answer

    async def _metrics(self, request: web.Request) -> web.Response:
        body = exposition(samples(self.views.status(), self.views.latency, self.views.outcomes))
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def _status(self, request: web.Request) -> web.Response:
        return json_response(self.views.status())

    async def _health(self, request: web.Request) -> web.Response:
        complaints = self.views.complaints()
        return json_response({"well": not complaints, "complaints": complaints}, 503 if complaints else 200)

    async def _config(self, request: web.Request) -> web.Response:
        return json_response(self.views.config())

    async def _overview(self, request: web.Request) -> web.Response:
        return json_response(await self.views.overview())

    async def _part(self, request: web.Request) -> web.Response:
        return json_response(await self.views.part())

    async def _decisions(self, request: web.Request) -> web.Response:
        most = request.query.get("limit", str(SHOWN))
        if not (most.isascii() and most.isdigit() and len(most) < 6):
            raise OperatorError(f"limit = {most!r}: give a whole number")
        return json_response(self.views.decisions(request.query.get("search", ""), int(most)))

    async def _movers(self, request: web.Request) -> web.Response:
        return json_response(await self.views.movers())

    async def _overrides(self, request: web.Request) -> web.Response:
        return json_response(self.views.overrides() | {"orders": bool(self._settings.worker.http_token)})

    async def _order(self, request: web.Request) -> web.Response:
        """Carry out an order; what it changed, or why not."""
        token = self._settings.worker.http_token
        if not token:
            return json_response({"error": "this page only shows: worker.http_token lets it give orders"}, 403)
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()):
            return json_response({"error": "the token isn't that of worker.http_token"}, 401)
        try:
            asked = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise OperatorError("give a JSON object") from None
        at_ms = int(time.time() * 1000)
        changes = await order(self._settings, at_ms, orders_of(asked, at_ms))
        for change in changes:
            logger.info("an order by the page, %s %s: %s", change.kind, change.network, change.text)
        refused = all(change.kind == REFUSES for change in changes)
        told = [{"kind": change.kind, "network": change.network, "text": change.text} for change in changes]
        return json_response({"changes": told}, 409 if refused else 200)

    async def _sender(self, request: web.Request) -> web.Response:
        address, asked_by_peer = request.match_info["address"], FORWARDED in request.headers
        return json_response(await self.views.sender(address, asked_by_peer=asked_by_peer))

    async def _plot(self, request: web.Request) -> web.Response:
        address, asked_by_peer = request.match_info["address"], FORWARDED in request.headers
        svg = await self.views.plot(address, asked_by_peer=asked_by_peer)
        return web.Response(text=svg, content_type=SVG, headers=HEADERS)
