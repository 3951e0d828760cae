"""Conversations between an MTA and the edge, octet for octet, as files: ``> `` from the MTA, ``< `` from the edge.

Octets are written as in a Python bytes literal. Several ``> `` lines before a ``< `` arrive as one piece; ``= ended`` says that
the edge closes. All of them meet the same desk: 192.0.2.7 has one message left of its burst of one, 192.0.2.8 and
2001:db8:1:2::/64 none, 198.51.100.0/24 is throttled and 198.51.100.25 exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.edge.connections import Connections
from engine.edge.decision_row import Row
from engine.edge.protocols.dns import DnsSession
from engine.edge.protocols.milter import MilterSession
from engine.edge.protocols.opensmtpd import OpensmtpdSession
from engine.edge.protocols.policy import PolicySession
from engine.edge.protocols.readsocket import ReadsocketSession
from engine.edge.protocols.session import Session
from engine.edge.protocols.socketmap import SocketmapSession
from engine.edge.protocols.tcptable import TcpTableSession
from engine.edge.reply import Reply
from engine.edge.service import Desk
from engine.edge.shadow import Shadow
from engine.edge.table import Table
from topics.decisions import Source
from topics.networks import network_of

FOLDER = Path(__file__).parents[1] / "golden" / "edge"
NOW_MS = 1_764_000_000_000
UNTIL_MS = NOW_MS + 3_600_000
ZONE = "blocked.example"
TEXT = "Server busy. Please try again later from [{ip}]; retry in {retry_s} s."
SESSIONS: dict[str, type[Session]] = {
    "policy": PolicySession,
    "milter": MilterSession,
    "socketmap": SocketmapSession,
    "tcp_table": TcpTableSession,
    "readsocket": ReadsocketSession,
    "opensmtpd": OpensmtpdSession,
    "dns": DnsSession,
}


def row(network: str, tag: int, until_ms: int = UNTIL_MS) -> Row:
    """A decision of one message a minute, at most one at once."""
    return Row(network_of(network), until_ms, 1 / 60_000, 1.0, 500, tag, Source("connections", 0, tag))


def golden_desk(*, shadow: bool = False) -> Desk:
    """The desk of all transcripts."""
    table = Table(1000)
    table.trusted_until_ms = UNTIL_MS
    for network, tag in (
        ("192.0.2.7/32", 10000007),
        ("192.0.2.8/32", 10000008),
        ("2001:db8:1:2::/64", 20000064),
        ("198.51.100.0/24", 10000024),
    ):
        table.put(row(network, tag), NOW_MS)
    desk = Desk(table, Connections(10_000), Reply(TEXT), Shadow(everything=shadow))
    for ip in ("192.0.2.8", "2001:db8:1:2::25", "198.51.100.99"):
        desk.ask_once(ip, NOW_MS)
    table.exempt(network_of("198.51.100.25/32"), None)
    desk.connections.take_ended(100)
    return desk


def session_of(name: str, desk: Desk) -> Session:
    """A session of the protocol that a transcript is named after."""
    protocol = name.partition("-")[0]
    return DnsSession(desk, ZONE) if protocol == "dns" else SESSIONS[protocol](desk)


def octets_of(escaped: str) -> bytes:
    """The octets that a line stands for."""
    return escaped.encode("latin-1").decode("unicode_escape").encode("latin-1")


def escaped(octets: bytes) -> str:
    """A line for octets."""
    return repr(octets)[2:-1]


def played(name: str, text: str) -> Iterator[str]:
    """The transcript with the edge's side as it is now; comments and the MTA's side stay."""
    session, incoming = session_of(name, golden_desk()), b""
    for line in [*text.splitlines(), ""]:
        if line.startswith("> "):
            incoming += octets_of(line[2:])
        elif incoming:
            reply, incoming = session.receive(incoming, NOW_MS), b""
            yield from [f"< {escaped(reply)}"] if reply else []
            yield from ["= ended"] if session.ended else []
        if line and not line.startswith(("< ", "= ")):
            yield line
