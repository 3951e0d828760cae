"""DNS, as block lists speak it: ``7.2.0.192.ZONE`` (or 32 nibbles for IPv6), A and TXT, over UDP and TCP.

Throttled: A ``127.0.0.x`` (x: 1 and the first digit of the tag, which tells the reason) and TXT with the reply; all others
don't exist. A question for A counts as a message and takes a token; TXT only looks, as it comes after A. Every answer may be
kept for a second, no longer, so a resolver in between hides repetitions within it.

Wire format by dnslib. A packet that is no question gets no answer.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from dnslib import QTYPE, RCODE, RR, SOA, TXT, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.dns import DNSError

from engine.edge.lookup import EXCESS, UNREADABLE, Answer
from engine.edge.protocols.session import REQUEST_OCTETS, Session
from engine.edge.service import Desk

TTL_S = 1
TXT_OCTETS = 255
REASON_DIGIT = 10_000_000
LENGTH = struct.Struct(">H")
NIBBLES = 32


def address_in(name: str) -> str:
    """The address whose labels stand reversed in front of the zone; "" if there is none."""
    labels = name.split(".")[::-1]
    if len(labels) == NIBBLES and all(len(label) == 1 for label in labels):
        try:
            return str(IPv6Address(int("".join(labels), 16)))
        except ValueError:
            return ""
    return ".".join(labels) if len(labels) == 4 else ""


class Zone:
    """Answers single packets for one zone (``blocked.example``, no dots around it)."""

    def __init__(self, desk: Desk, zone: str) -> None:
        self.desk, self._zone = desk, zone.lower()

    def answer(self, packet: bytes, now_ms: int) -> bytes:
        """The answering packet; nothing if this is no question."""
        try:
            record = DNSRecord.parse(packet)
        except (DNSError, ValueError, IndexError, struct.error):
            self.desk.malformed += 1
            return b""
        if record.header.qr or len(record.questions) != 1:
            self.desk.malformed += 1
            return b""
        return bytes(self._reply(record, record.questions[0], now_ms).pack())

    def _reply(self, record: DNSRecord, question: DNSQuestion, now_ms: int) -> DNSRecord:
        header = DNSHeader(id=record.header.id, qr=1, aa=1, rd=record.header.rd)
        reply = DNSRecord(header, questions=[question])
        name = str(question.qname).rstrip(".").lower()
        if name != self._zone and not name.endswith(f".{self._zone}"):
            header.rcode, header.aa = RCODE.REFUSED, 0
            return reply
        ip = address_in(name.removesuffix(self._zone).rstrip("."))
        wants_text = question.qtype == QTYPE.TXT
        answer = self._ask(ip, now_ms, only_look=question.qtype != QTYPE.A)
        if answer.why != EXCESS:
            header.rcode = RCODE.NOERROR if name == self._zone else RCODE.NXDOMAIN
            reply.add_auth(RR(self._zone, QTYPE.SOA, rdata=self._authority(), ttl=TTL_S))
        elif wants_text:
            text = self.desk.line(answer, ip)[:TXT_OCTETS]
            reply.add_answer(RR(question.qname, QTYPE.TXT, rdata=TXT(text), ttl=TTL_S))
        elif question.qtype == QTYPE.A:
            last = 1 + min(9, answer.tag // REASON_DIGIT)
            reply.add_answer(RR(question.qname, QTYPE.A, rdata=A(f"127.0.0.{last}"), ttl=TTL_S))
        return reply

    def _ask(self, ip: str, now_ms: int, *, only_look: bool) -> Answer:
        if not ip:
            return Answer(UNREADABLE)
        return self.desk.look(ip, now_ms) if only_look else self.desk.ask_once(ip, now_ms)

    def _authority(self) -> SOA:
        return SOA(self._zone, f"postmaster.{self._zone}", (1, 3600, 600, 86_400, TTL_S))


class DnsSession(Session):
    """DNS over TCP: packets behind two octets of length."""

    def __init__(self, desk: Desk, zone: str, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, limit)
        self._zone = Zone(desk, zone)

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole packets are answered in order."""
        octets = self.rest + octets
        out, at = b"", 0
        while len(octets) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(octets, at)[0]
            if end - at > self.limit:
                return out + self.malformed()
            if end > len(octets):
                break
            reply = self._zone.answer(octets[at + LENGTH.size : end], now_ms)
            if not reply:
                self.ended = True
                return out
            out += LENGTH.pack(len(reply)) + reply
            at = end
        self.rest = octets[at:]
        return out
