from __future__ import annotations

from dataclasses import replace

import pytest

from topics.decisions import (
    OVERRIDE,
    RELEASE,
    SHADOW,
    THROTTLE,
    BadDecision,
    Decision,
    Source,
    decode_decision,
    encode_decision,
    supersedes,
)

HELD = Decision(
    "192.0.2.7/32", THROTTLE, 0, 9, 1.0, 1.0, "volume", {}, {}, Source("connections", 1, 7), "model", "sha256:00"
)


def made(verdict: str, offset: int, reason: str = "") -> Decision:
    return replace(HELD, verdict=verdict, reason=reason, source=replace(HELD.source, offset=offset))


@pytest.mark.parametrize(
    ("held", "new", "applied"),
    [
        (made(THROTTLE, 7), made(THROTTLE, 6), False),
        (made(THROTTLE, 7), made(THROTTLE, 7), True),
        (made(THROTTLE, 7), made(SHADOW, 7), True),
        (made(THROTTLE, 7), made(RELEASE, 7), False),
        (made(SHADOW, 7), made(RELEASE, 7), False),
        (made(THROTTLE, 7), made(RELEASE, 8), True),
        (made(THROTTLE, 7), made(RELEASE, 6, OVERRIDE), False),
        (made(THROTTLE, 7), made(RELEASE, 7, OVERRIDE), True),
        (made(RELEASE, 7), made(THROTTLE, 7), True),
        (made(RELEASE, 7), made(THROTTLE, 6), False),
        (made(RELEASE, 7, OVERRIDE), made(THROTTLE, 7), False),
        (made(RELEASE, 7, OVERRIDE), made(THROTTLE, 8), True),
        (made(THROTTLE, 7), made(THROTTLE, 6, OVERRIDE), False),
    ],
)
def test_supersedes_follows_the_contract(held: Decision, new: Decision, applied: bool) -> None:
    assert supersedes(held.precedence, new.precedence) == applied


@pytest.mark.parametrize("offset", [-1, 0, 2**53])
def test_decision_from_logs_or_a_record_is_read_as_it_was_written(offset: int) -> None:
    written = made(THROTTLE, offset)

    assert decode_decision(encode_decision(written)) == written


def test_decision_before_any_record_but_the_logs_is_refused() -> None:
    written = made(THROTTLE, -2)

    with pytest.raises(BadDecision, match="offset"):
        decode_decision(encode_decision(written))
