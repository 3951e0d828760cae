"""HTTP and JSON for Haraka, rspamd, KumoMTA and scripts: what each path answers; `engine.edge.web` does the HTTP.

- ``GET /v1/decisions/IP``: only looks. With ``?session=ID`` it is a connection, with ``&message=ID`` a message of it, which
  takes a token; ``&recipient=`` counts, ``&end=1`` ends it at once.
- ``POST /v1/decisions`` with ``{"ips": [...]}``, at most `MOST_IPS`: looks at many.
- ``GET /health``: 200 while decisions are followed, 503 with the same JSON if they are not (answers are no opinion then).
- ``GET /metrics``: Prometheus.

``verdict`` is "defer" (``reply`` has the parts, ``line`` all of it) or "none" (``why`` says which kind of none).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from engine.edge.decision_row import REPLY_CODE
from engine.edge.lookup import EXCESS, UNREADABLE, Answer
from engine.edge.service import Desk
from topics.networks import network_around, network_text

PATH = "/v1/decisions"
MOST_IPS = 1000
JSON, TEXT = "application/json", "text/plain"


class Question(NamedTuple):
    """``path``: decoded; ``query``: names to last values."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = b""


class Response(NamedTuple):
    """What goes out."""

    status: int
    kind: str
    body: bytes


def _json(status: int, value: object) -> Response:
    return Response(status, JSON, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


class Pages:
    """``health``: figures of whoever follows Kafka, with "fresh"; ``metrics``: the text for Prometheus; both given the time."""

    def __init__(self, desk: Desk, health: Callable[[int], dict[str, Any]], metrics: Callable[[int], bytes]) -> None:
        self._desk, self._health, self._metrics = desk, health, metrics

    def answer(self, question: Question, now_ms: int) -> Response:
        """The response to one request."""
        if question.path == PATH and question.method == "POST":
            return self._many(question.body, now_ms)
        if question.method not in ("GET", "HEAD"):
            return _json(405, {"error": "method not allowed"})
        if question.path.startswith(f"{PATH}/"):
            return self._one(question.path.removeprefix(f"{PATH}/"), question.query, now_ms)
        if question.path == "/health":
            health = self._health(now_ms)
            return _json(200 if health["fresh"] else 503, health)
        if question.path == "/metrics":
            return Response(200, TEXT, self._metrics(now_ms))
        return _json(404, {"error": "no such path"})

    def _one(self, ip: str, query: Mapping[str, str], now_ms: int) -> Response:
        session, message = query.get("session", ""), query.get("message", "")
        key = f"http {session}"
        if session and message:
            answer = self._desk.ask(key, ip, message, query.get("recipient", ""), now_ms)
        elif session and query.get("end") != "1":
            answer = self._desk.greet(key, ip, now_ms)
        else:
            answer = self._desk.look(ip, now_ms)
        if answer.why == UNREADABLE:
            return _json(400, {"error": "no IPv4 or IPv6 address"})
        if session and query.get("end") == "1":
            self._desk.connections.end(key)
        return _json(200, self._said(ip, answer))

    def _many(self, body: bytes, now_ms: int) -> Response:
        try:
            ips = orjson.loads(body)["ips"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            ips = None
        if not isinstance(ips, list) or len(ips) > MOST_IPS or not all(isinstance(ip, str) for ip in ips):
            return _json(400, {"error": f'give {{"ips": [...]}} with at most {MOST_IPS} addresses as text'})
        return _json(200, {"decisions": [self._said(ip, self._desk.look(ip, now_ms)) for ip in ips]})

    def _said(self, ip: str, answer: Answer) -> dict[str, object]:
        said: dict[str, object] = {"ip": ip, "verdict": "defer" if answer.why == EXCESS else "none", "why": answer.why}
        if answer.length >= 0:
            network = network_text(network_around(ip, answer.length))
            said |= {"network": network, "until": answer.until_ms}
        if answer.why == EXCESS:
            reply = self._desk.reply
            text = reply.said(answer, ip)
            said |= {
                "retry_s": answer.retry_s,
                "reply": {"code": REPLY_CODE, "status": reply.status(answer), "text": text},
                "line": reply.line(answer, ip),
            }
        return said
