"""The edge's HTTP says what it always said: ``> `` the request and its body, ``< `` status and body."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl

from engine.edge.protocols.http import Pages, Question
from tests.support.transcripts import FOLDER, NOW_MS, golden_desk

PAGES = FOLDER / "http.pages"


def asked(line: str) -> Question:
    method, target, *body = line.removeprefix("> ").split(" ", 2)
    path, _, query = target.partition("?")
    return Question(method, path, dict(parse_qsl(query)), body[0].encode() if body else b"")


def answered() -> Iterator[str]:
    pages = Pages(golden_desk(), lambda now_ms: {"fresh": False}, lambda now_ms: b"at %d\n" % now_ms)
    for line in PAGES.read_text().splitlines():
        if line.startswith("> "):
            response = pages.answer(asked(line), NOW_MS)
            yield from (line, f"< {response.status} {response.body.decode().strip()}")
        elif line.startswith("# "):
            yield line


def test_every_page_is_as_it_always_was() -> None:
    assert list(answered()) == PAGES.read_text().splitlines()
