"""Invariant tested: whatever octets a client of any protocol sends, and in whatever pieces, the edge neither raises nor keeps
more than its limit; the answers don't depend on the pieces; and nobody hears a 451 whom no live decision throttles."""

from __future__ import annotations

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edge.connections import Connections
from engine.edge.decision_row import Row, read_decision
from engine.edge.protocols.dns import Zone
from engine.edge.protocols.http import PATH, Pages, Question
from engine.edge.protocols.session import Session
from engine.edge.reply import Reply
from engine.edge.service import Desk
from engine.edge.table import Table
from tests.golden.test_edge_transcripts import NAMES, sent
from tests.support.scenes import DECISIONS
from tests.support.transcripts import NOW_MS, SESSIONS, ZONE, golden_desk, session_of
from topics.decisions import BadDecision
from topics.networks import network_of
from topics.overrides import EXEMPT, BadExemption, Override, decode_line, decode_record, encode_line

LIMIT = 200_000


@st.composite
def conversation(draw: st.DrawFn, protocol: str) -> bytes:
    """Requests of the transcripts, damaged a little, or any octets."""
    known = [sent(name) for name in NAMES if name.partition("-")[0] == protocol]
    octets = bytearray(
        b"".join(draw(st.lists(st.sampled_from(known) | st.binary(max_size=40), min_size=1, max_size=3)))
    )
    for _ in range(draw(st.integers(0, 4))):
        at, taken = draw(st.integers(0, len(octets))), draw(st.integers(0, 3))
        octets[at : at + taken] = draw(st.binary(max_size=4))
    return bytes(octets)


def heard(session: Session, pieces: list[bytes]) -> bytes:
    out = b""
    for piece in pieces:
        out += session.receive(piece, NOW_MS)
        if session.ended:
            break
    session.close()
    return out


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("protocol", SESSIONS)
@given(st.data())
def test_any_octets_in_any_pieces(protocol: str, data: st.DataObject) -> None:
    octets = data.draw(conversation(protocol))
    whole = heard(session_of(protocol, golden_desk()), [octets])
    assert (
        heard(session_of(protocol, golden_desk()), cut(octets, data.draw(st.lists(st.integers(0, 5000), max_size=6))))
        == whole
    )
    empty = Desk(Table(10), Connections(1000), Reply("x"))
    assert b"451 4.7." not in heard(session_of(protocol, empty), [octets])


@pytest.mark.parametrize("protocol", sorted(set(SESSIONS) - {"milter", "dns"}))
def test_a_request_without_an_end_is_given_up_at_the_limit(protocol: str) -> None:
    session = session_of(protocol, golden_desk())
    taken = 0
    while not session.ended and taken < LIMIT:
        session.receive(b"9" * 1000, NOW_MS)
        taken += 1000
    assert session.ended
    assert taken <= session.limit + 1000


VALUES = st.sampled_from([b"192.0.2.7", b"192.0.2.8", b"2001:db8:1:2::9", b"RCPT", b"EHLO", b"", b"25", b"a=b"])
POLICY = (b"request", b"protocol_state", b"helo_name", b"recipient", b"client_address", b"instance", b"client_port")


@given(
    st.lists(VALUES | st.binary(max_size=12), min_size=6, max_size=6),
    st.just(list(POLICY[1:])) | st.permutations(POLICY[1:]),
)
def test_a_policy_request_in_a_known_order_is_answered_like_the_first_of_its_kind(
    values: list[bytes], order: list[bytes]
) -> None:
    def request(*values: bytes) -> bytes:
        lines = [b"request=smtpd_access_policy", *map(b"=".join, zip(order, values, strict=True))]
        return b"\n".join(lines) + b"\n\n"

    new, used = (session_of("policy", golden_desk()) for _ in range(2))
    used.receive(request(b"203.0.113.1", b"RCPT", b"x", b"y", b"z", b"1"), NOW_MS)
    used.ended = False
    assert heard(used, [request(*values)]) == heard(new, [request(*values)])


@given(st.binary(max_size=600))
def test_any_datagram(packet: bytes) -> None:
    reply = Zone(golden_desk(), ZONE).answer(packet, NOW_MS)
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
def test_any_http_request(method: str, path: str, query: dict[str, str], body: bytes) -> None:
    pages = Pages(golden_desk(), lambda now_ms: {"fresh": True}, lambda now_ms: b"")
    assert pages.answer(Question(method, path, query, body), NOW_MS).status in {200, 400, 404, 405}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
GOOD = orjson.loads(DECISIONS.read_bytes().splitlines()[0])


@st.composite
def odd_decisions(draw: st.DrawFn) -> bytes:
    """A decision with fields replaced by anything, or any JSON, or any octets."""
    fields = dict(GOOD) | draw(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=2))
    for part, names in (("source", ["offset", "partition", "topic"]), ("reply", ["code", "status", "tag", "text"])):
        if isinstance(fields[part], dict) and draw(st.booleans()):
            fields[part] = fields[part] | {draw(st.sampled_from(names)): draw(JSON)}
    return draw(
        st.sampled_from([json.dumps(fields).encode(), json.dumps(draw(JSON)).encode(), draw(st.binary(max_size=9))])
    )


@given(odd_decisions(), st.sampled_from(["value", "release"]))
def test_any_decision_is_taken_whole_or_left_out(octets: bytes, where: str) -> None:
    key = GOOD["network"].encode()
    try:
        found = read_decision(key, octets, None) if where == "value" else read_decision(key, None, octets)
    except BadDecision:
        return
    table = Table(10)
    if isinstance(found, Row):
        table.put(found, 0)
    else:
        table.release(found)


ODD_OVERRIDES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["exempt", "throttle", "exempt-name"]) | JSON, "network": st.just("192.0.2.0/24") | JSON},
    optional=dict.fromkeys(("name", "until", "created", "owner", "by", "rate_per_min", "burst", "offset"), JSON),
).map(lambda fields: json.dumps(fields).encode())


@given(odd_decisions() | ODD_OVERRIDES, st.sampled_from([b"192.0.2.0/24", b"helo:.example.com", b"\xff", b"::1"]))
def test_any_override_is_taken_whole_or_left_out(octets: bytes, key: bytes) -> None:
    for value, removal in ((octets, None), (None, octets)):
        try:
            said = decode_record(key, value, removal, 7)
        except BadExemption:
            continue
        if isinstance(said, Override) and said.kind == EXEMPT:
            Table(10).exempt(network_of(said.network), said.until)
        if said is not None:
            assert decode_line(encode_line(said)) == said
