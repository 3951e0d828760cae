"""The worker's HTTP server: aiohttp in the worker's event loop, so it runs between two blocks.

Overrides are accepted only with the token of `worker.http_token` in the Authorization header, which another site's page can't
send; without a token the page is read-only. Each request's work is bounded, and beyond `MAX_REQUESTS` at a time requests get
status 503. An address that another process uses is logged, and the worker runs without a page, because detection matters more.

The page is three files of this package and loads nothing from elsewhere; its content security policy forbids it too.
"""

from __future__ import annotations

import errno
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

import orjson
from aiohttp import web

from engine.config.load import Settings
from engine.config.validators import parse_listen_addresses
from engine.metrics.exposition import exposition
from engine.overrides.changes import REFUSES
from engine.overrides.request import plan_of
from engine.overrides.store import apply_plan
from engine.web.peer_client import FORWARDED, PART
from engine.web.views import DEFAULT_ROWS, Views
from engine.worker.metrics import samples
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
MAX_REQUESTS = 32
MAX_REQUEST_BYTES = 65_536
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
    """Return a JSON response with the security headers."""
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json", headers=HEADERS)


def _file(name: str, kind: str) -> Page:
    body = (files("engine.web") / "page" / name).read_bytes()

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    return respond


class PageServer:
    """The HTTP server of one worker. ``outcomes``: notifications by channel and outcome, for the metrics."""

    def __init__(self, views: Views, settings: Settings, outcomes: Mapping[tuple[str, str], int]) -> None:
        self._views, self._settings, self._outcomes = views, settings, outcomes
        self._active_requests = 0
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        pages = {
            "/metrics": self._metrics,
            "/health": self._health,
            "/v1/status": self._status,
            "/v1/config": self._config,
            "/v1/overview": self._overview,
            PART: self._part,
            "/v1/decisions": self._decisions,
            "/v1/top_senders": self._top_senders,
            "/v1/overrides": self._overrides,
            "/v1/senders/{address}": self._sender,
            "/v1/senders/{address}/plot.svg": self._plot,
            **{path: _file(*file) for path, file in FILES.items()},
        }
        app.add_routes([web.get(path, self._bounded(page)) for path, page in pages.items()])
        app.add_routes([web.post("/v1/overrides", self._bounded(self._change_overrides))])
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_S)

    async def start(self) -> None:
        """Listen on the addresses of worker.http that are free; log the others."""
        await self._runner.setup()
        for address in parse_listen_addresses(self._settings.worker.http):
            try:
                await web.TCPSite(self._runner, address.host, address.port).start()
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                    raise
                logger.warning(
                    "no page, status or metrics at %s:%d: %s; set another address in worker.http, or none",
                    *(address.host, address.port, error.strerror),
                )
        for host, port in self.listening:
            logger.info("page, status and metrics at http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @property
    def listening(self) -> list[tuple[str, int]]:
        """Hosts and ports on which it listens."""
        return [(host, port) for host, port, *_ in self._runner.addresses]

    async def stop(self) -> None:
        """Close all connections and listen no more."""
        await self._runner.cleanup()

    def _bounded(self, page: Page) -> Page:
        """Limit the page to `MAX_REQUESTS` at a time, and turn an `OperatorError` into status 400."""

        async def respond(request: web.Request) -> web.StreamResponse:
            if self._active_requests >= MAX_REQUESTS:
                return json_response({"error": "too many concurrent requests"}, 503)
            self._active_requests += 1
            try:
                return await page(request)
            except OperatorError as error:
                return json_response({"error": str(error)}, 400)
            finally:
                self._active_requests -= 1

        return respond

    async def _metrics(self, request: web.Request) -> web.Response:
        body = exposition(samples(self._views.status(), self._views.latency, self._outcomes))
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def _status(self, request: web.Request) -> web.Response:
        return json_response(self._views.status())

    async def _health(self, request: web.Request) -> web.Response:
        problems = self._views.problems()
        return json_response({"healthy": not problems, "problems": problems}, 503 if problems else 200)

    async def _config(self, request: web.Request) -> web.Response:
        return json_response(self._views.config())

    async def _overview(self, request: web.Request) -> web.Response:
        return json_response(await self._views.overview())

    async def _part(self, request: web.Request) -> web.Response:
        return json_response(await self._views.part())

    async def _decisions(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", str(DEFAULT_ROWS))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6):
            raise OperatorError(f"limit = {limit!r}: give a whole number")
        return json_response(self._views.decisions(request.query.get("search", ""), int(limit)))

    async def _top_senders(self, request: web.Request) -> web.Response:
        return json_response(await self._views.top_senders())

    async def _overrides(self, request: web.Request) -> web.Response:
        return json_response(self._views.overrides() | {"writable": bool(self._settings.worker.http_token)})

    async def _change_overrides(self, request: web.Request) -> web.Response:
        """Apply an operator's override; return its changes, or the reason why there are none."""
        token = self._settings.worker.http_token
        if not token:
            return json_response({"error": "this page is read-only: set worker.http_token to change overrides"}, 403)
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()):
            return json_response({"error": "the token isn't that of worker.http_token"}, 401)
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise OperatorError("give a JSON object") from None
        at_ms = int(time.time() * 1000)
        changes = await apply_plan(self._settings, plan_of(body, at_ms))
        for change in changes:
            logger.info("override from the page: %s %s: %s", change.kind, change.network, change.text)
        refused = all(change.kind == REFUSES for change in changes)
        fields = [{"kind": change.kind, "network": change.network, "text": change.text} for change in changes]
        return json_response({"changes": fields}, 409 if refused else 200)

    async def _sender(self, request: web.Request) -> web.Response:
        address, forwarded = request.match_info["address"], FORWARDED in request.headers
        return json_response(await self._views.sender(address, forwarded=forwarded))

    async def _plot(self, request: web.Request) -> web.Response:
        address, forwarded = request.match_info["address"], FORWARDED in request.headers
        svg = await self._views.plot(address, forwarded=forwarded)
        return web.Response(text=svg, content_type=SVG, headers=HEADERS)
