"""Every protocol of the edge gives the golden replies, byte for byte, however its requests are split into pieces."""

from __future__ import annotations

import pytest

from tests.support.transcripts import (
    FOLDER,
    NAMES,
    NOW_MS,
    SESSIONS,
    golden_service,
    received,
    replay,
    sent,
    session_of,
)


@pytest.mark.parametrize("name", NAMES)
def test_conversation_equals_its_transcript(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()

    lines = list(replay(name, text))

    assert lines == text.splitlines()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 3, 1_000_000])
def test_replies_do_not_depend_on_pieces(name: str, size: int) -> None:
    session, data = session_of(name, golden_service()), sent(name)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]

    replies = b"".join(session.receive(piece, NOW_MS) for piece in pieces if not session.ended)

    assert replies == received(name)


@pytest.mark.parametrize("name", NAMES)
def test_shadow_mode_defers_nothing_and_logs_every_deferral(name: str) -> None:
    service = golden_service(shadow=True)
    service.shadow_log.clear()
    session, deferred = (
        session_of(name, service),
        received(name).count(b"451 4.7.500") + received(name).count(b"451%20"),
    )

    replies = session.receive(sent(name), NOW_MS)

    assert b"451" not in replies
    if not name.startswith("dns"):  # whose deferrals are addresses
        assert len(service.shadow_log) == deferred


def test_every_protocol_has_transcripts() -> None:
    assert {name.partition("-")[0] for name in NAMES} == set(SESSIONS)
    assert all(f"{protocol}-malformed" in NAMES for protocol in SESSIONS)
