"""The edge's reply is the operator's text, filled in as `str.format` would do it."""

from __future__ import annotations

import pytest

from engine.edge.lookup import EXCESS, Answer
from engine.edge.reply import Reply

ANSWER = Answer(EXCESS, 24, 503, 1234567, 95, 0)


@pytest.mark.parametrize(
    "text",
    [
        "Server busy. Please try again later from [{ip}]; retry in {retry_s} s.",
        "busy",
        "100 % busy, {{ip}} 5%",
        "{retry_s} s for {network}, {ip}, {network}",
    ],
)
def test_a_text_is_filled_in(text: str) -> None:
    reply, said = Reply(text), text.format(ip="192.0.2.7", network="192.0.2.0/24", retry_s=95) + " (AS01234567)"
    assert reply.said(ANSWER, "192.0.2.7") == said
    assert reply.line(ANSWER, "192.0.2.7") == f"451 4.7.503 {said}"
