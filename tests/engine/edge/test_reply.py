"""The edge's reply is the operator's text, with its fields filled in as by `str.format`."""

from __future__ import annotations

import pytest

from engine.edge.lookup import EXCESS, LookupResult
from engine.edge.reply import ReplyText

RESULT = LookupResult(EXCESS, 24, 503, 1234567, 95, 0)


@pytest.mark.parametrize(
    "text",
    [
        "Server busy. Please try again later from [{ip}]; retry in {retry_s} s.",
        "busy",
        "100 % busy, {{ip}} 5%",
        "{retry_s} s for {network}, {ip}, {network}",
    ],
)
def test_reply_text_is_filled_in_like_str_format(text: str) -> None:
    expected = text.format(ip="192.0.2.7", network="192.0.2.0/24", retry_s=95) + " (AS01234567)"

    reply = ReplyText(text)

    assert reply.text(RESULT, "192.0.2.7") == expected
    assert reply.line(RESULT, "192.0.2.7") == f"451 4.7.503 {expected}"
