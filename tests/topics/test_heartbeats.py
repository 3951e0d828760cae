"""Heartbeats are read back as they were written; every other record is a `BadHeartbeat`."""

from __future__ import annotations

import pytest

from topics.heartbeats import BadHeartbeat, Heartbeat, decode_heartbeat, encode_heartbeat


@pytest.mark.parametrize("heartbeat", [Heartbeat("mx1", 5, alive=True), Heartbeat("mx1/2", 5, False, True)])
def test_encoded_heartbeat_decodes_to_itself(heartbeat: Heartbeat) -> None:
    assert decode_heartbeat(heartbeat.edge.encode(), encode_heartbeat(heartbeat)) == heartbeat


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"mx1", None),
        (b"mx1", b"{}"),
        (b"mx1", b'{"alive":true}'),
        (b"mx1", b'{"alive":true,"ts":"5"}'),
        (b"mx1", b'{"alive":true,"ts":1e400}'),
        (b"mx1", b'{"alive":1,"ts":5}'),
        (b"mx1", b'{"alive":true,"ts":5,"edge":"mx2"}'),
        (b"mx1", b'{"alive":true,"ts":5,"breaker_open":"no"}'),
        (b"a\r\nb", b'{"alive":true,"ts":5}'),
        (b"\xff", b'{"alive":true,"ts":5}'),
        (b"", b'{"alive":true,"ts":5}'),
        (b"a" * 256, b'{"alive":true,"ts":5}'),
        (None, b'{"alive":true,"ts":5}'),
    ],
)
def test_record_other_than_a_heartbeat_is_refused(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(BadHeartbeat):
        decode_heartbeat(key, value)
