"""The DNS protocol parses one question of bounded size and nothing else."""

from __future__ import annotations

import struct

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from engine.edge.protocols.dns import TCP_BYTES, UDP_BYTES, DnsZone, parse_question
from engine.edge.protocols.session import MalformedRequest
from tests.support.transcripts import NOW_MS, ZONE, golden_service

QUESTION = b"\0\1" + bytes(DNSRecord.question(f"8.2.0.192.{ZONE}").pack())[2:]  # dnslib draws the id


def packet_with(counts: tuple[int, int, int, int], flags: int = 0x0100, tail: bytes = QUESTION[12:]) -> bytes:
    return struct.pack(">6H", 1, flags, *counts) + tail


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        QUESTION[:11],
        QUESTION + bytes(UDP_BYTES),
        packet_with((2, 0, 0, 0), tail=QUESTION[12:] * 2),
        packet_with((0, 0, 0, 0), tail=b""),
        packet_with((1, 1, 0, 0)),
        packet_with((1, 0, 4000, 0)),
        packet_with((1, 0, 0, 2)),
        packet_with((1, 0, 0, 0), flags=0x8180),
        packet_with((1, 0, 0, 0), flags=0x2800),
        packet_with((1, 0, 0, 0), tail=b"\x40" + b"a" * 64 + b"\0\0\1\0\1"),
        packet_with((1, 0, 0, 0), tail=b"\xbf" + b"a" * 191 + b"\0\0\1\0\1"),
        packet_with((1, 0, 0, 0), tail=b"\xc0\x0c\0\1\0\1"),
        packet_with((1, 0, 0, 0), tail=(b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1"),
        packet_with((1, 0, 0, 0), tail=b"\3abc"),
    ],
)
def test_packet_other_than_one_small_question_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_question(packet)


def test_limit_over_tcp_is_4096_bytes() -> None:
    padded = packet_with((1, 0, 0, 1), tail=QUESTION[12:] + bytes(TCP_BYTES - len(QUESTION)))

    assert parse_question(padded, TCP_BYTES)[1].qname == f"8.2.0.192.{ZONE}"
    with pytest.raises(MalformedRequest):
        parse_question(padded + b"\0", TCP_BYTES)


def test_records_of_a_packet_are_not_parsed() -> None:
    record = DNSRecord.question(f"8.2.0.192.{ZONE}")
    for number in range(4000):
        record.add_ar(RR(f"n{number}.example", QTYPE.A, rdata=A("192.0.2.1")))
    service = golden_service()

    assert DnsZone(service, ZONE).respond_datagram(bytes(record.pack()), NOW_MS) == b""


@pytest.mark.parametrize(
    ("below", "rcode"),
    [
        ("0.192", RCODE.NOERROR),
        ("2.0.192", RCODE.NOERROR),
        ("8.b.d.0.1.0.0.2", RCODE.NOERROR),
        ("9.2.0.192", RCODE.NXDOMAIN),
        ("300.0.192", RCODE.NXDOMAIN),
        ("mail", RCODE.NXDOMAIN),
        ("1.0.0.127", RCODE.NXDOMAIN),
        ("2.0.0.127", RCODE.NOERROR),
    ],
)
def test_names_between_zone_and_address_exist(below: str, rcode: int) -> None:
    question = DNSRecord.question(f"{below}.{ZONE}", "A")

    answer = DNSRecord.parse(DnsZone(golden_service(), ZONE).respond(bytes(question.pack()), NOW_MS))

    assert answer.header.rcode == rcode
    assert bool(answer.rr) == (below == "2.0.0.127")
    assert len(answer.auth) == (0 if answer.rr else 1)
