"""DNS, as block lists speak it: ``7.2.0.192.ZONE`` (or 32 nibbles for IPv6), A and TXT, over UDP and TCP.

A throttled address has an A record ``127.0.0.x`` (x: 1 plus the first digit of the tag, which encodes the reason) and a TXT
record with the reply; all other addresses don't exist. A question for A counts as a message and consumes a token. TXT consumes
none, because it follows A. Every answer may be cached for one second, so a resolver in between hides repetitions within it.

The wire format is dnslib's. A packet that isn't a question gets no answer.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from dnslib import QTYPE, RCODE, RR, SOA, TXT, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.dns import DNSError

from engine.edge.lookup import EXCESS, UNREADABLE, LookupResult
from engine.edge.protocols.session import REQUEST_BYTES, MalformedRequest, ProtocolSession, Request
from engine.edge.service import EdgeService

TTL_S = 1
TXT_BYTES = 255
REASON_DIGIT = 10_000_000
LENGTH = struct.Struct(">H")
NIBBLES = 32


def address_in(name: str) -> str:
    """Return the address whose labels precede the zone in reverse order; "" if there is none."""
    labels = name.split(".")[::-1]
    if len(labels) == NIBBLES and all(len(label) == 1 for label in labels):
        try:
            return str(IPv6Address(int("".join(labels), 16)))
        except ValueError:
            return ""
    return ".".join(labels) if len(labels) == 4 else ""


class DnsZone:
    """Answers packets for one zone (``blocked.example``, without dots around it)."""

    def __init__(self, service: EdgeService, zone: str) -> None:
        self._service, self._zone = service, zone.lower()

    def respond(self, packet: bytes, now_ms: int) -> bytes:
        """Return the packet that answers a question. Raises `MalformedRequest` for other packets."""
        try:
            record = DNSRecord.parse(packet)
        except (DNSError, ValueError, IndexError, struct.error):
            raise MalformedRequest from None
        if record.header.qr or len(record.questions) != 1:
            raise MalformedRequest
        return bytes(self._answer(record, record.questions[0], now_ms).pack())

    def respond_datagram(self, packet: bytes, now_ms: int) -> bytes:
        """Return the packet that answers a datagram; empty, and counted, if it isn't a question."""
        try:
            return self.respond(packet, now_ms)
        except MalformedRequest:
            self._service.count_malformed()
            return b""

    def _answer(self, record: DNSRecord, question: DNSQuestion, now_ms: int) -> DNSRecord:
        header = DNSHeader(id=record.header.id, qr=1, aa=1, rd=record.header.rd)
        answer = DNSRecord(header, questions=[question])
        name = str(question.qname).rstrip(".").lower()
        if name != self._zone and not name.endswith(f".{self._zone}"):
            header.rcode, header.aa = RCODE.REFUSED, 0
            return answer
        ip = address_in(name.removesuffix(self._zone).rstrip("."))
        result = self._look_up(ip, now_ms, consume=question.qtype == QTYPE.A)
        if result.why != EXCESS:
            header.rcode = RCODE.NOERROR if name == self._zone else RCODE.NXDOMAIN
            answer.add_auth(RR(self._zone, QTYPE.SOA, rdata=self._authority(), ttl=TTL_S))
        elif question.qtype == QTYPE.TXT:
            text = self._service.reply(result, ip)[:TXT_BYTES]
            answer.add_answer(RR(question.qname, QTYPE.TXT, rdata=TXT(text), ttl=TTL_S))
        elif question.qtype == QTYPE.A:
            last = 1 + min(9, result.tag // REASON_DIGIT)
            answer.add_answer(RR(question.qname, QTYPE.A, rdata=A(f"127.0.0.{last}"), ttl=TTL_S))
        return answer

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
        if end - start > self.limit:
            raise MalformedRequest
        return None if end > len(buffer) else Request(buffer[begin:end], end)

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the answering packet with its length."""
        answer = self._zone.respond(request, now_ms)
        return LENGTH.pack(len(answer)) + answer
