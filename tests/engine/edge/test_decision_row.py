"""The edge reads the engine's decisions and rejects those that it can't make a reply of."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.decision_row import DecisionRow, ImplausibleDecision, Release, read_decision
from tests.support.scenes import DECISIONS
from topics.decisions import RELEASE, BadDecision
from topics.networks import Network, network_of

LINES = DECISIONS.read_bytes().splitlines()
THROTTLES = [line for line in LINES if orjson.loads(line)["verdict"] != RELEASE]


def key_of(line: bytes) -> bytes:
    return str(orjson.loads(line)["network"]).encode()


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_decision_of_the_engine_is_read(line: bytes) -> None:
    fields = orjson.loads(line)
    if fields["verdict"] == RELEASE:
        release = read_decision(key_of(line), None, line)
        assert isinstance(release, Release)
        assert release.source is not None
        return

    row = read_decision(key_of(line), line, None)

    assert isinstance(row, DecisionRow)
    assert f"4.7.{row.status}" == fields["reply"]["status"]
    assert f"AS{row.tag}" == fields["reply"]["tag"]
    assert str(row.network) == fields["network"]
    assert row.rate_per_ms * 60_000 == pytest.approx(fields["rate_per_min"])


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "block"},
        {"network": "192.0.2.9/32"},
        {"until": -1},
        {"rate_per_min": -1},
        {"rate_per_min": 1e300},
        {"burst": "x"},
        {"reply": {}},
        {"reply": {"code": 550, "status": "4.7.500", "tag": "AS10000000"}},
        {"reply": {"code": 451, "status": "5.7.500", "tag": "AS10000000"}},
        {"reply": {"code": 451, "status": "4.7.500", "tag": "AS1\r\n250 ok"}},
        {"reply": {"code": 451, "status": "4.7.500", "tag": "AS9999999999"}},
        {"source": None},
    ],
)
def test_decision_without_a_possible_reply_is_rejected(change: dict[str, Any]) -> None:
    line = orjson.dumps(orjson.loads(THROTTLES[0]) | change)

    with pytest.raises(BadDecision):
        read_decision(key_of(THROTTLES[0]), line, None)


def test_tombstone_without_header_is_a_release_without_source() -> None:
    assert read_decision(b"192.0.2.0/24", None, None) == Release(network_of("192.0.2.0/24"), None)


@pytest.mark.parametrize(
    "key", [b"", b"x", b"192.0.2.7/24", b"192.0.2.7/33", b"2001:db8::/-1", b"192.0.2.0/2 4", b"\xff"]
)
def test_key_other_than_a_network_is_rejected(key: bytes) -> None:
    with pytest.raises(BadDecision):
        read_decision(key, None, None)


@given(st.sampled_from([32, 128]), st.data())
def test_network_text_is_read_back(bits: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, bits))
    number = data.draw(st.integers(0, (1 << bits) - 1)) >> (bits - length) << (bits - length)
    if bits == 128 and number >> 32 == 0xFFFF:
        return

    network = Network(bits, number, length)

    assert network_of(str(network)) == network


def test_ipv4_mapped_network_is_the_ipv4_network() -> None:
    assert network_of("::ffff:192.0.2.0/120") == network_of("192.0.2.0/24")


def wide_throttle(**fields: Any) -> bytes:
    line = orjson.loads(THROTTLES[0])
    return orjson.dumps(line | {"network": "0.0.0.0/0", "verdict": "throttle", **fields})


@pytest.mark.parametrize("reason", ["volume", "override"])
def test_throttle_of_all_addresses_is_refused(reason: str) -> None:
    with pytest.raises(ImplausibleDecision):
        read_decision(b"0.0.0.0/0", wide_throttle(reason=reason), None, orjson.loads(THROTTLES[0])["issued"])


def test_forced_manual_throttle_of_all_addresses_is_read() -> None:
    line = wide_throttle(reason="override", evidence={"override": {"network": "0.0.0.0/0", "forced": True}})

    assert isinstance(read_decision(b"0.0.0.0/0", line, None, orjson.loads(line)["issued"]), DecisionRow)
