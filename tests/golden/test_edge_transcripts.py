"""Every protocol of the edge says what it always said, to the octet, however its requests are cut into pieces."""

from __future__ import annotations

import pytest

from tests.support.transcripts import FOLDER, NOW_MS, SESSIONS, golden_desk, octets_of, played, session_of

NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))


def sent(name: str) -> bytes:
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    return b"".join(octets_of(line[2:]) for line in lines if line.startswith("> "))


def received(name: str) -> bytes:
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    return b"".join(octets_of(line[2:]) for line in lines if line.startswith("< "))


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_goes_as_it_always_did(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()
    assert list(played(name, text)) == text.splitlines()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 3, 1_000_000])
def test_pieces_change_nothing(name: str, size: int) -> None:
    session, octets = session_of(name, golden_desk()), sent(name)
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    assert b"".join(session.receive(piece, NOW_MS) for piece in pieces if not session.ended) == received(name)


@pytest.mark.parametrize("name", NAMES)
def test_in_shadow_mode_nothing_is_deferred_and_all_of_it_is_told(name: str) -> None:
    desk = golden_desk(shadow=True)
    desk.remarks.clear()
    session, deferred = session_of(name, desk), received(name).count(b"451 4.7.500") + received(name).count(b"451%20")
    assert b"451" not in session.receive(sent(name), NOW_MS)
    if not name.startswith("dns"):  # which says it as an address
        assert len(desk.remarks) == deferred


def test_every_protocol_has_its_transcripts() -> None:
    assert {name.partition("-")[0] for name in NAMES} == set(SESSIONS)
    assert all(f"{protocol}-malformed" in NAMES for protocol in SESSIONS)
