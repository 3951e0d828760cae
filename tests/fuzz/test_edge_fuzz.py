"""Invariant tested: for any bytes from a client of any protocol, in any pieces, the edge neither raises nor buffers more than
its limit; the replies don't depend on the pieces; a client without a live decision never gets a 451."""

from __future__ import annotations

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.connections import ConnectionTracker
from engine.edge.decision_row import DecisionRow, read_decision
from engine.edge.protocols.dns import DnsZone
from engine.edge.protocols.http import PATH, ApiRequest, HttpApi
from engine.edge.protocols.session import ProtocolSession
from engine.edge.reply import ReplyText
from engine.edge.service import EdgeService
from engine.edge.table import DecisionTable
from tests.support.scenes import DECISIONS
from tests.support.transcripts import NAMES, NOW_MS, SESSIONS, ZONE, golden_service, sent, session_of
from topics.decisions import BadDecision
from topics.networks import network_of
from topics.overrides import EXEMPT, BadOverride, Override, decode_line, decode_record, encode_line

LIMIT = 200_000


@st.composite
def conversation(draw: st.DrawFn, protocol: str) -> bytes:
    """Draw requests of the transcripts, slightly damaged, or any bytes."""
    known = [sent(name) for name in NAMES if name.partition("-")[0] == protocol]
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(known) | st.binary(max_size=40), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at, removed = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
        data[at : at + removed] = draw(st.binary(max_size=4))
    return bytes(data)


def replies_to(session: ProtocolSession, pieces: list[bytes]) -> bytes:
    replies = b""
    for piece in pieces:
        replies += session.receive(piece, NOW_MS)
        if session.ended:
            break
    session.close()
    return replies


def split_at(data: bytes, positions: list[int]) -> list[bytes]:
    bounds = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@pytest.mark.parametrize("protocol", SESSIONS)
@given(st.data())
def test_any_bytes_in_any_pieces_get_the_same_replies(protocol: str, data: st.DataObject) -> None:
    sent_bytes = data.draw(conversation(protocol))
    positions = data.draw(st.lists(st.integers(0, 5000), max_size=6))
    without_decisions = EdgeService(DecisionTable(10), ConnectionTracker(1000), ReplyText("x"))

    whole = replies_to(session_of(protocol, golden_service()), [sent_bytes])
    in_pieces = replies_to(session_of(protocol, golden_service()), split_at(sent_bytes, positions))

    assert in_pieces == whole
    assert b"451 4.7." not in replies_to(session_of(protocol, without_decisions), [sent_bytes])


@pytest.mark.parametrize("protocol", sorted(set(SESSIONS) - {"milter", "dns"}))
def test_endless_request_ends_the_session_at_the_limit(protocol: str) -> None:
    session = session_of(protocol, golden_service())
    received_bytes = 0

    while not session.ended and received_bytes < LIMIT:
        session.receive(b"9" * 1000, NOW_MS)
        received_bytes += 1000

    assert session.ended
    assert received_bytes <= session.limit + 1000


VALUES = st.sampled_from([b"192.0.2.7", b"192.0.2.8", b"2001:db8:1:2::9", b"RCPT", b"EHLO", b"", b"25", b"a=b"])
POLICY = (b"request", b"protocol_state", b"helo_name", b"recipient", b"client_address", b"instance", b"client_port")


@given(
    st.lists(VALUES | st.binary(max_size=12), min_size=6, max_size=6),
    st.just(list(POLICY[1:])) | st.permutations(POLICY[1:]),
)
def test_policy_request_in_known_order_is_answered_like_the_first(values: list[bytes], order: list[bytes]) -> None:
    def request(*values: bytes) -> bytes:
        lines = [b"request=smtpd_access_policy", *map(b"=".join, zip(order, values, strict=True))]
        return b"\n".join(lines) + b"\n\n"

    new, used = (session_of("policy", golden_service()) for _ in range(2))
    used.receive(request(b"203.0.113.1", b"RCPT", b"x", b"y", b"z", b"1"), NOW_MS)
    used.ended = False

    assert replies_to(used, [request(*values)]) == replies_to(new, [request(*values)])


@given(st.binary(max_size=600))
def test_any_datagram_gets_its_own_answer_or_none(packet: bytes) -> None:
    reply = DnsZone(golden_service(), ZONE).respond_datagram(packet, NOW_MS)

    assert not reply or reply[:2] == packet[:2]


TEXTS = st.text(max_size=30) | st.sampled_from(["192.0.2.7", "192.0.2.8", "2001:db8:1:2::1", "session", "message"])


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    st.builds(lambda part: f"{PATH}/{part}", TEXTS)
    | st.sampled_from([PATH, "/health", "/metrics"])
    | st.text(max_size=20),
    st.dictionaries(st.sampled_from(["session", "message", "recipient", "end"]), TEXTS),
    st.binary(max_size=60)
    | st.builds(lambda ips: b'{"ips":["' + b'","'.join(ips) + b'"]}', st.lists(st.binary(max_size=9))),
)
def test_any_http_request_gets_a_response(method: str, path: str, query: dict[str, str], body: bytes) -> None:
    api = HttpApi(golden_service(), lambda now_ms: {"fresh": True}, lambda now_ms: b"")

    response = api.respond(ApiRequest(method, path, query, body), NOW_MS)

    assert response.status in {200, 400, 404, 405}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
GOOD = orjson.loads(DECISIONS.read_bytes().splitlines()[0])


@st.composite
def odd_decisions(draw: st.DrawFn) -> bytes:
    """Draw a decision with replaced fields, any JSON, or any bytes."""
    fields = dict(GOOD) | draw(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=2))
    for part, names in (("source", ["offset", "partition", "topic"]), ("reply", ["code", "status", "tag", "text"])):
        if isinstance(fields[part], dict) and draw(st.booleans()):
            fields[part] = fields[part] | {draw(st.sampled_from(names)): draw(JSON)}
    return draw(
        st.sampled_from([json.dumps(fields).encode(), json.dumps(draw(JSON)).encode(), draw(st.binary(max_size=9))])
    )


@given(odd_decisions(), st.sampled_from(["value", "release"]))
def test_any_decision_is_applied_or_rejected(record: bytes, part: str) -> None:
    key, table = GOOD["network"].encode(), DecisionTable(10)

    try:
        change = read_decision(key, record, None) if part == "value" else read_decision(key, None, record)
    except BadDecision:
        return

    if isinstance(change, DecisionRow):
        table.put(change, 0)
    else:
        table.release(change)


ODD_OVERRIDES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["exempt", "throttle", "exempt-name"]) | JSON, "network": st.just("192.0.2.0/24") | JSON},
    optional=dict.fromkeys(("name", "until", "created", "owner", "by", "rate_per_min", "burst", "offset"), JSON),
).map(lambda fields: json.dumps(fields).encode())


@given(odd_decisions() | ODD_OVERRIDES, st.sampled_from([b"192.0.2.0/24", b"helo:.example.com", b"\xff", b"::1"]))
def test_any_override_is_applied_or_rejected(record: bytes, key: bytes) -> None:
    for value, removal in ((record, None), (None, record)):
        try:
            override = decode_record(key, value, removal, 7)
        except BadOverride:
            continue
        if isinstance(override, Override) and override.kind == EXEMPT:
            DecisionTable(10).exempt(network_of(override.network), override.until)
        if override is not None:
            assert decode_line(encode_line(override)) == override
