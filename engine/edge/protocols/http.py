"""HTTP and JSON for Haraka, rspamd, KumoMTA and scripts: the answer of each path. `engine.edge.web` speaks HTTP itself.

- ``GET /v1/decisions/IP`` peeks, without effect. With ``?session=ID`` it is a connection, with ``&message=ID`` a message of it,
  which consumes a token; ``&recipient=`` is counted, ``&end=1`` ends the connection.
- ``POST /v1/decisions`` with ``{"ips": [...]}``, at most `MAX_IPS`: peeks at many.
- ``GET /health``: 200 while decisions are fresh, else 503 with the same JSON (every answer is no opinion then).
- ``GET /metrics``: Prometheus.

``verdict`` is "defer" (``reply`` has the parts, ``line`` the whole reply) or "none" (``why`` has the kind of no opinion).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from engine.edge.decision_row import REPLY_CODE
from engine.edge.lookup import EXCESS, UNREADABLE, LookupResult
from engine.edge.service import EdgeService
from topics.networks import network_around

PATH = "/v1/decisions"
MAX_IPS = 1000
JSON, TEXT = "application/json", "text/plain"


class ApiRequest(NamedTuple):
    """An HTTP request."""

    method: str
    path: str  # decoded
    query: Mapping[str, str]  # the last value of each name
    body: bytes = b""


class ApiResponse(NamedTuple):
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes


def _json(status: int, value: object) -> ApiResponse:
    return ApiResponse(status, JSON, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


class HttpApi:
    """The paths of one edge. `health` (with the key "fresh") and `metrics` are called with the time of a request."""

    def __init__(
        self, service: EdgeService, health: Callable[[int], dict[str, Any]], metrics: Callable[[int], bytes]
    ) -> None:
        self._service, self._health, self._metrics = service, health, metrics

    def respond(self, request: ApiRequest, now_ms: int) -> ApiResponse:
        """Return the response to one request."""
        if request.path == PATH and request.method == "POST":
            return self._peek_many(request.body, now_ms)
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": "method not allowed"})
        if request.path.startswith(f"{PATH}/"):
            return self._check_one(request.path.removeprefix(f"{PATH}/"), request.query, now_ms)
        if request.path == "/health":
            health = self._health(now_ms)
            return _json(200 if health["fresh"] else 503, health)
        if request.path == "/metrics":
            return ApiResponse(200, TEXT, self._metrics(now_ms))
        return _json(404, {"error": "no such path"})

    def _check_one(self, ip: str, query: Mapping[str, str], now_ms: int) -> ApiResponse:
        session, message = query.get("session", ""), query.get("message", "")
        key = f"http {session}"
        if session and message:
            result = self._service.check(key, ip, message, query.get("recipient", ""), now_ms)
        elif session and query.get("end") != "1":
            result = self._service.on_connect(key, ip, now_ms)
        else:
            result = self._service.peek(ip, now_ms)
        if result.why == UNREADABLE:
            return _json(400, {"error": "no IPv4 or IPv6 address"})
        if session and query.get("end") == "1":
            self._service.connections.end(key)
        return _json(200, self._fields(ip, result))

    def _peek_many(self, body: bytes, now_ms: int) -> ApiResponse:
        try:
            ips = orjson.loads(body)["ips"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            ips = None
        if not isinstance(ips, list) or len(ips) > MAX_IPS or not all(isinstance(ip, str) for ip in ips):
            return _json(400, {"error": f'give {{"ips": [...]}} with at most {MAX_IPS} addresses as text'})
        return _json(200, {"decisions": [self._fields(ip, self._service.peek(ip, now_ms)) for ip in ips]})

    def _fields(self, ip: str, result: LookupResult) -> dict[str, object]:
        fields: dict[str, object] = {
            "ip": ip,
            "verdict": "defer" if result.why == EXCESS else "none",
            "why": result.why,
        }
        if result.length >= 0:
            fields |= {"network": str(network_around(ip, result.length)), "until": result.until_ms}
        if result.why == EXCESS:
            reply = self._service.reply_text
            fields |= {
                "retry_s": result.retry_s,
                "reply": {"code": REPLY_CODE, "status": reply.status(result), "text": reply.text(result, ip)},
                "line": reply.line(result, ip),
            }
        return fields
