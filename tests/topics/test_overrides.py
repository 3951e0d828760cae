"""Overrides on the wire: encoded and decoded, with minimal, unknown and wrong fields."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.closed_json import printable
from topics.networks import canonical_network
from topics.overrides import (
    CONNECTOR,
    EXEMPT,
    EXEMPT_NAME,
    RELEASE,
    THROTTLE,
    THROTTLED,
    BadOverride,
    Override,
    OverrideRecord,
    Removal,
    canonical_name,
    decode_line,
    decode_override,
    decode_record,
    encode_line,
    encode_override,
    encode_removal,
)

TIMES_MS = st.integers(0, 1 << 42)
TEXTS = st.text(max_size=20).map(printable)
OVERRIDES = st.builds(
    Override,
    st.sampled_from(["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "cafe::/16", "::/0", "2001:db8::1/128"]),
    st.just(EXEMPT),
    st.sampled_from([CONNECTOR, RELEASE]),
    TIMES_MS,
    st.none() | TIMES_MS,
    owner=TEXTS,
    reason=TEXTS,
    by=TEXTS,
    relay=TEXTS,
)
THROTTLES = st.builds(
    Override,
    st.just("192.0.2.7/32"),
    st.just(THROTTLE),
    st.just(THROTTLED),
    TIMES_MS,
    TIMES_MS,
    rate_per_min=st.floats(0, 1e9),
    burst=st.floats(0, 1e9),
)
NAMES = st.builds(Override, st.just("helo:.example.com"), st.just(EXEMPT_NAME), st.just(CONNECTOR), TIMES_MS, st.none())
REMOVALS = st.builds(Removal, st.sampled_from(["192.0.2.0/24", "client:.example.com"]), TIMES_MS, TEXTS, TEXTS)


@given(OVERRIDES | THROTTLES | NAMES | REMOVALS, st.integers(-1, 9))
def test_encoded_record_decodes_to_itself(record: OverrideRecord, offset: int) -> None:
    value = encode_override(record) if isinstance(record, Override) else None
    removal = encode_removal(record) if isinstance(record, Removal) else None
    read = decode_record(record.network.encode(), value, removal, offset)
    assert read == type(record)(**{name: getattr(record, name) for name in record.__slots__} | {"offset": offset})
    assert read is not None
    assert decode_line(encode_line(read)) == read


def test_value_with_required_fields_only_is_an_exemption() -> None:
    value = orjson.dumps({"network": "192.0.2.0/24", "kind": "exempt", "v": 1})
    assert decode_override(value) == Override("192.0.2.0/24", EXEMPT, CONNECTOR, 0, None)
    assert decode_record(b"192.0.2.0/24", None, None) == Removal("192.0.2.0/24", 0)


def test_unknown_kinds_and_fields_are_ignored() -> None:
    assert decode_override(b'{"kind": "later", "network": 7}') is None
    assert decode_override(b'{"kind": "exempt", "network": "192.0.2.0/24", "until": 9, "later": []}') is not None


@pytest.mark.parametrize(
    "value",
    [
        b"", b"[]", b"7", b"{}", b'{"kind": 7}', b'{"kind": "exempt"}', b'{"kind": "exempt", "network": 7}',
        b'{"kind": "exempt", "network": "192.0.2.1/24"}', b'{"kind": "exempt", "network": "here"}',
        b'{"kind": "exempt", "network": "192.0.2.0/24", "until": "soon"}',
        b'{"kind": "exempt", "network": "192.0.2.0/24", "until": -1}',
        b'{"kind": "exempt", "network": "192.0.2.0/24", "created": true}',
        b'{"kind": "throttle", "network": "192.0.2.0/24"}',
        b'{"kind": "throttle", "network": "192.0.2.0/24", "until": 9, "rate_per_min": -1}',
        b'{"kind": "throttle", "network": "192.0.2.0/24", "until": 9, "rate_per_min": "1"}',
        b'{"kind": "exempt-name", "network": "192.0.2.0/24"}', b'{"kind": "exempt-name", "name": "192.0.2.0/24"}',
        b'{"kind": "exempt", "network": "helo:.example.com"}',
    ],
)  # fmt: skip
def test_other_value_is_refused(value: bytes) -> None:
    with pytest.raises(BadOverride):
        decode_override(value)


def test_value_of_another_network_than_the_key_is_refused() -> None:
    value = encode_override(Override("192.0.2.0/24", EXEMPT, CONNECTOR, 0, None))
    with pytest.raises(BadOverride, match="differ"):
        decode_record(b"192.0.3.0/24", value, None)


def test_network_and_name_have_one_canonical_text() -> None:
    assert [canonical_network(text) for text in ("192.0.2.7", "::ffff:192.0.2.0/120", "2001:DB8:0::/48")] == [
        "192.0.2.7/32", "192.0.2.0/24", "2001:db8::/48",
    ]  # fmt: skip
    assert [canonical_name(text) for text in ("helo:Example.COM.", "client:.a.example.org")] == [
        "helo:.example.com", "client:.a.example.org",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["helo:", "helo:com", "client:.", "rdns:.example.com", "helo:exa mple.com"])
def test_suffix_without_two_labels_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no suffix"):
        canonical_name(text)


def test_control_characters_of_a_text_are_read_as_visible_escapes() -> None:
    value = orjson.dumps({"network": "192.0.2.0/24", "kind": "exempt", "created": 1, "reason": "a\r\n\x1b[2J"})

    override = decode_override(value)

    assert override is not None
    assert override.reason == "a\\r\\n\\x1b[2J"
