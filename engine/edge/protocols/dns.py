"""DNS, as block lists speak it: ``7.2.0.192.ZONE`` (or 32 nibbles for IPv6), A and TXT, over UDP and TCP.

A throttled address has an A record ``127.0.0.x`` (x: 1 plus the first digit of the tag, which encodes the reason) and a TXT
record with the reply; all other addresses don't exist. A question for A counts as a message and consumes a token. TXT consumes
none, because it follows A. Every answer may be cached for one second, so a resolver in between hides repetitions within it.

Names between the zone and an address exist (RFC 8020): a resolver that asks label by label gets "no data", never NXDOMAIN.
2.0.0.127.ZONE is always listed, as RFC 5782 asks of a block list.

The wire format is dnslib's, for the question alone: parsing 4,000 records of a 64 kB packet took 0.85 s of the loop. A packet
that isn't one question, or is longer than 512 bytes (TCP: 4,096), gets no answer.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from dnslib import NS, QTYPE, RCODE, RR, SOA, TXT, A, DNSBuffer, DNSHeader, DNSQuestion, DNSRecord
from dnslib.buffer import BufferError as DnsBufferError
from dnslib.dns import DNSError
from dnslib.label import DNSLabelError

from engine.edge.lookup import EXCESS, UNREADABLE, LookupResult
from engine.edge.protocols.session import REQUEST_BYTES, MalformedRequest, ProtocolSession, Request
from engine.edge.service import EdgeService

TTL_S = 1
TXT_BYTES = 255
REASON_DIGIT = 10_000_000
LENGTH = struct.Struct(">H")
NIBBLES = 32
UDP_BYTES, TCP_BYTES = 512, 4096
NAME_BYTES, LABEL_BYTES = 255, 63
HEADER = struct.Struct(">6H")
NOT_A_QUERY = 0xF800  # bits of the flags: response, opcode
TEST_NAME, TEST_ADDRESS, TEST_TEXT = "2.0.0.127", "127.0.0.2", "test entry (RFC 5782)"
UNPARSABLE = (DNSError, DNSLabelError, DnsBufferError, ValueError, IndexError, struct.error)


def parse_question(packet: bytes, limit: int = UDP_BYTES) -> tuple[DNSHeader, DNSQuestion]:
    """Return header and question of a query. Raises `MalformedRequest` for other packets, and for one above `limit` bytes."""
    if not HEADER.size <= len(packet) <= limit:
        raise MalformedRequest
    _, flags, questions, answers, authorities, additional = HEADER.unpack_from(packet)
    if flags & NOT_A_QUERY or questions != 1 or answers or authorities or additional > 1:
        raise MalformedRequest
    try:
        _check_name(packet, HEADER.size)
        buffer = DNSBuffer(packet)
        return DNSHeader.parse(buffer), DNSQuestion.parse(buffer)
    except UNPARSABLE:
        raise MalformedRequest from None


def address_in(name: str) -> str:
    """Return the address whose labels precede the zone in reverse order; "" if there is none."""
    labels = name.split(".")[::-1]
    if len(labels) == NIBBLES and all(len(label) == 1 for label in labels):
        try:
            return str(IPv6Address(int("".join(labels), 16)))
        except ValueError:
            return ""
    return ".".join(labels) if len(labels) == 4 else ""


def _check_name(packet: bytes, at: int) -> None:
    """Raise for a name with compressed or reserved labels, or of more than 255 bytes: dnslib fails on them when it writes."""
    first = at
    while length := packet[at]:
        at += 1 + length
        if length > LABEL_BYTES or at - first >= NAME_BYTES:
            raise MalformedRequest


def is_between(name: str) -> bool:
    """Return whether the labels before the zone are the end of some address's name, not a whole one."""
    labels = name.split(".")
    if len(labels) < 4 and all(label.isascii() and label.isdigit() and int(label) < 256 for label in labels):
        return True
    return len(labels) < NIBBLES and all(len(label) == 1 and label in "0123456789abcdef" for label in labels)


class DnsZone:
    """Answers packets for one zone (``blocked.example``, without dots around it)."""

    def __init__(self, service: EdgeService, zone: str) -> None:
        self._service, self._zone = service, zone.lower()

    def respond(self, packet: bytes, now_ms: int, limit: int = UDP_BYTES) -> bytes:
        """Return the packet that answers a question. Raises `MalformedRequest` for other packets."""
        header, question = parse_question(packet, limit)
        answer = DNSRecord(DNSHeader(id=header.id, qr=1, aa=1, rd=header.rd), questions=[question])
        self._answer(answer, question, now_ms)
        return bytes(answer.pack())

    def respond_datagram(self, packet: bytes, now_ms: int) -> bytes:
        """Return the packet that answers a datagram; empty, and counted, if it isn't a question."""
        try:
            return self.respond(packet, now_ms)
        except MalformedRequest:
            self._service.count_malformed()
            return b""

    def _answer(self, answer: DNSRecord, question: DNSQuestion, now_ms: int) -> None:
        name = str(question.qname).rstrip(".").lower()
        if name != self._zone and not name.endswith(f".{self._zone}"):
            answer.header.rcode, answer.header.aa = RCODE.REFUSED, 0
            return
        below = name.removesuffix(self._zone).rstrip(".")
        records = self._records(below, question, now_ms)
        for kind, data in records or ():
            answer.add_answer(RR(question.qname, kind, rdata=data, ttl=TTL_S))
        if not records:
            answer.header.rcode = RCODE.NXDOMAIN if records is None else RCODE.NOERROR
            answer.add_auth(RR(self._zone, QTYPE.SOA, rdata=self._authority(), ttl=TTL_S))

    def _records(self, below: str, question: DNSQuestion, now_ms: int) -> list[tuple[int, object]] | None:
        """Return the records of a name's type, None if the name doesn't exist. `below`: the labels before the zone."""
        kind = question.qtype
        if not below:
            own = {QTYPE.SOA: self._authority(), QTYPE.NS: NS(self._zone)}
            return [(kind, own[kind])] if kind in own else []
        if below == TEST_NAME:
            listed = {QTYPE.A: A(TEST_ADDRESS), QTYPE.TXT: TXT(TEST_TEXT)}
            return [(kind, listed[kind])] if kind in listed else []
        if is_between(below):
            return []
        ip = address_in(below)
        result = self._look_up(ip, now_ms, consume=kind == QTYPE.A)
        if result.why != EXCESS:
            return None
        if kind == QTYPE.TXT:
            return [(kind, TXT(self._service.reply(result, ip)[:TXT_BYTES]))]
        last = 1 + min(9, result.tag // REASON_DIGIT)
        return [(kind, A(f"127.0.0.{last}"))] if kind == QTYPE.A else []

    def _look_up(self, ip: str, now_ms: int, *, consume: bool) -> LookupResult:
        if not ip:
            return LookupResult(UNREADABLE)
        return self._service.check_once(ip, now_ms) if consume else self._service.peek(ip, now_ms)

    def _authority(self) -> SOA:
        return SOA(self._zone, f"postmaster.{self._zone}", (1, 3600, 600, 86_400, TTL_S))


class DnsSession(ProtocolSession):
    """DNS over TCP: packets preceded by two bytes of length."""

    def __init__(self, service: EdgeService, zone: str, limit: int = REQUEST_BYTES) -> None:
        super().__init__(service, limit)
        self._zone = DnsZone(service, zone)

    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the next packet without its length."""
        begin = start + LENGTH.size
        if len(buffer) < begin:
            return None
        end = begin + LENGTH.unpack_from(buffer, start)[0]
        if end - start > min(self.limit, LENGTH.size + TCP_BYTES):
            raise MalformedRequest
        return None if end > len(buffer) else Request(buffer[begin:end], end)

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the answering packet with its length."""
        answer = self._zone.respond(request, now_ms, TCP_BYTES)
        return LENGTH.pack(len(answer)) + answer
