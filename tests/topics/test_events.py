from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topics.events import LAST_TS_MS, MAX_MESSAGES, OUTCOMES, ConnectionEvent, PoisonRecord, encode_event, parse_event

ADDRESSES = (
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda ip: not ip.startswith("ffff:ffff:"))
)
COUNTS = st.integers(0, MAX_MESSAGES)
EVENTS = st.builds(
    ConnectionEvent,
    ts=st.integers(0, LAST_TS_MS),
    ip=ADDRESSES,
    mta=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    messages=COUNTS,
    recipients=COUNTS,
    outcome=st.sampled_from(sorted(OUTCOMES)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS)
def test_encoded_event_parses_to_itself(event: ConnectionEvent) -> None:
    assert parse_event(encode_event(event)) == event


def test_encoding_omits_defaults_and_keeps_the_order_of_fields() -> None:
    plain = ConnectionEvent(1_700_000_000_000, "192.0.2.7", "", 1, 1, "accepted")
    full = ConnectionEvent(1_700_000_000_000, "2001:db8::1", "mx1", 2, 5, "deferred")
    even = ConnectionEvent(0, "192.0.2.7", "mx2", 3, 3, "rejected")
    assert encode_event(plain) == b'{"ts":1700000000000,"ip":"192.0.2.7"}'
    assert encode_event(full) == (
        b'{"ts":1700000000000,"ip":"2001:db8::1","mta":"mx1","messages":2,"recipients":5,"outcome":"deferred"}'
    )
    assert encode_event(even) == b'{"ts":0,"ip":"192.0.2.7","mta":"mx2","messages":3,"outcome":"rejected"}'


def test_missing_fields_have_defaults_and_other_fields_are_ignored() -> None:
    assert parse_event(b'{"ts":5,"ip":"192.0.2.7"}') == ConnectionEvent(5, "192.0.2.7", "", 1, 1, "accepted")
    record = b'{"session":{"a":[1,null]},"messages":4,"ip":"::ffff:192.0.2.7","ts":5,"helo":null,"mta":7}'
    assert parse_event(record) == ConnectionEvent(5, "::ffff:192.0.2.7", "", 4, 4, "accepted")


def test_last_value_of_a_duplicate_name_counts() -> None:
    assert parse_event(b'{"ts":"x","ts":5,"ip":"no","ip":"192.0.2.7"}').ts == 5


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"ts":NaN,"ip":"192.0.2.7"}', "not JSON"),
        (b'{"ts":5,"ip":"192.0.2.7","x":"\xff"}', "not JSON"),
        (b'{"ts":5,"ip":"192.0.2.7"} x', "not JSON"),
        (b"[" * 5000 + b"]" * 5000, "not JSON"),
        (b'{"ts":1' + b"0" * 400 + b"}", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'"ts"', "not an object"),
        (b"{}", "ts missing"),
        (b'{"ip":"192.0.2.7"}', "ts missing"),
        (b'{"ts":null,"ip":"192.0.2.7"}', "ts not an integer"),
        (b'{"ts":true,"ip":"192.0.2.7"}', "ts not an integer"),
        (b'{"ts":5.0,"ip":"192.0.2.7"}', "ts not an integer"),
        (b'{"ts":"5","ip":"192.0.2.7"}', "ts not an integer"),
        (b'{"ts":18446744073709551616,"ip":"192.0.2.7"}', "ts not an integer"),
        (b'{"ts":18446744073709551615,"ip":"192.0.2.7"}', "ts out of range"),
        (b'{"ts":253402300800000,"ip":"192.0.2.7"}', "ts out of range"),
        (b'{"ts":-1,"ip":"192.0.2.7"}', "ts out of range"),
        (b'{"ts":5}', "ip missing"),
        (b'{"ts":5,"ip":3221225991}', "ip not text"),
        (b'{"ts":5,"ip":null}', "ip not text"),
        (b'{"ts":5,"ip":""}', "ip not an address"),
        (b'{"ts":5,"ip":"192.0.2.07"}', "ip not an address"),
        (b'{"ts":5,"ip":"192.0.2.7 "}', "ip not an address"),
        (b'{"ts":5,"ip":"fe80::1%eth0"}', "ip not an address"),
        (b'{"ts":5,"ip":"ffff:ffff::1"}', "ip not an address"),
        (b'{"ts":5,"ip":"192.0.2.7\\u0000"}', "ip not an address"),
        (b'{"ts":5,"ip":"192.0.2.7","messages":null}', "messages not an integer"),
        (b'{"ts":5,"ip":"192.0.2.7","messages":false}', "messages not an integer"),
        (b'{"ts":5,"ip":"192.0.2.7","messages":1000001}', "messages out of range"),
        (b'{"ts":5,"ip":"192.0.2.7","recipients":-1}', "recipients out of range"),
        (b'{"ts":5,"ip":"192.0.2.7","recipients":1e1}', "recipients not an integer"),
        (b'{"ts":5,"ip":"192.0.2.7","outcome":null}', "outcome unknown"),
        (b'{"ts":5,"ip":"192.0.2.7","outcome":["accepted"]}', "outcome unknown"),
        (b'{"ts":5,"ip":"192.0.2.7","outcome":"Accepted"}', "outcome unknown"),
    ],
)
def test_broken_contract_is_poison_with_a_reason(record: bytes, reason: str) -> None:
    with pytest.raises(PoisonRecord) as raised:
        parse_event(record)
    assert str(raised.value) == reason


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_event_or_poison(record: bytes) -> None:
    try:
        parse_event(record)
    except PoisonRecord:
        return


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["ts", "ip", "mta", "messages", "recipients", "outcome"])
NEARLY = st.one_of(JSON, st.integers(-1, LAST_TS_MS + 1), ADDRESSES, st.sampled_from(sorted(OUTCOMES)))


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text reads the Unicode tables
@given(st.dictionaries(NAMES, NEARLY))
def test_parsed_event_equals_the_record(fields: dict[str, Any]) -> None:
    try:
        event = parse_event(orjson.dumps(fields))
    except PoisonRecord:
        return
    assert (event.ts, event.ip) == (fields["ts"], fields["ip"])
    assert event.messages == fields.get("messages", 1)
    assert event.recipients == fields.get("recipients", event.messages)
    assert event.outcome == fields.get("outcome", "accepted")
