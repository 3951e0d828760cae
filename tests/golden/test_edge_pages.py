"""The edge's HTTP API gives the golden responses: ``> `` a request and its body, ``< `` status and body."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl

from engine.edge.protocols.http import ApiRequest, HttpApi
from tests.support.transcripts import FOLDER, NOW_MS, golden_service

PAGES = FOLDER / "http.pages"


def request_in(line: str) -> ApiRequest:
    method, target, *body = line.removeprefix("> ").split(" ", 2)
    path, _, query = target.partition("?")
    return ApiRequest(method, path, dict(parse_qsl(query)), body[0].encode() if body else b"")


def replayed() -> Iterator[str]:
    api = HttpApi(golden_service(), lambda now_ms: {"fresh": False}, lambda now_ms: b"at %d\n" % now_ms)
    for line in PAGES.read_text().splitlines():
        if line.startswith("> "):
            response = api.respond(request_in(line), NOW_MS)
            yield from (line, f"< {response.status} {response.body.decode().strip()}")
        elif line.startswith("# "):
            yield line


def test_every_response_equals_its_golden_one() -> None:
    assert list(replayed()) == PAGES.read_text().splitlines()
