"""Byte-exact conversations between a mail server and the edge, as files: ``> `` from the mail server, ``< `` from the edge.

Bytes are written as in a Python bytes literal. Several ``> `` lines before a ``< `` arrive as one piece; ``= ended`` means that
the edge closes. All conversations start with the same service: 192.0.2.7 has its whole burst of one message left, 192.0.2.8 and
2001:db8:1:2::/64 have none, 198.51.100.0/24 is throttled and 198.51.100.25 exempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.edge.connections import ConnectionTracker
from engine.edge.decision_row import DecisionRow
from engine.edge.protocols.dns import DnsSession
from engine.edge.protocols.milter import MilterSession
from engine.edge.protocols.opensmtpd import OpensmtpdSession
from engine.edge.protocols.policy import PolicySession
from engine.edge.protocols.readsocket import ReadsocketSession
from engine.edge.protocols.session import ProtocolSession
from engine.edge.protocols.socketmap import SocketmapSession
from engine.edge.protocols.tcptable import TcpTableSession
from engine.edge.reply import ReplyText
from engine.edge.service import EdgeService
from engine.edge.shadow import EdgeShadow
from engine.edge.table import DecisionTable
from topics.decisions import Source
from topics.networks import network_of

FOLDER = Path(__file__).parents[1] / "golden" / "edge"
NOW_MS = 1_764_000_000_000
UNTIL_MS = NOW_MS + 3_600_000
ZONE = "blocked.example"
TEXT = "Server busy. Please try again later from [{ip}]; retry in {retry_s} s."
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))
SESSIONS: dict[str, type[ProtocolSession]] = {
    "policy": PolicySession,
    "milter": MilterSession,
    "socketmap": SocketmapSession,
    "tcp_table": TcpTableSession,
    "readsocket": ReadsocketSession,
    "opensmtpd": OpensmtpdSession,
    "dns": DnsSession,
}


def row(network: str, tag: int, until_ms: int = UNTIL_MS) -> DecisionRow:
    """Return a decision of one message per minute with a burst of one."""
    return DecisionRow(network_of(network), until_ms, 1 / 60_000, 1.0, 500, tag, Source("connections", 0, tag))


def golden_service(*, shadow: bool = False) -> EdgeService:
    """Return the service of all transcripts."""
    table = DecisionTable(1000)
    table.trust_until(UNTIL_MS)
    for network, tag in (
        ("192.0.2.7/32", 10000007),
        ("192.0.2.8/32", 10000008),
        ("2001:db8:1:2::/64", 20000064),
        ("198.51.100.0/24", 10000024),
    ):
        table.put(row(network, tag), NOW_MS)
    service = EdgeService(table, ConnectionTracker(10_000), ReplyText(TEXT), EdgeShadow(everything=shadow))
    for ip in ("192.0.2.8", "2001:db8:1:2::25", "198.51.100.99"):
        service.check_once(ip, NOW_MS)
    table.exempt(network_of("198.51.100.25/32"), None)
    service.connections.pop_ended(100)
    return service


def session_of(name: str, service: EdgeService) -> ProtocolSession:
    """Return a session of the protocol after which a transcript is named."""
    protocol = name.partition("-")[0]
    return DnsSession(service, ZONE) if protocol == "dns" else SESSIONS[protocol](service)


def unescape(text: str) -> bytes:
    """Return the bytes that a line represents."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def escape(data: bytes) -> str:
    """Return the line that represents bytes."""
    return repr(data)[2:-1]


def sent(name: str) -> bytes:
    """Return all bytes from the mail server in a transcript."""
    return _side(name, "> ")


def received(name: str) -> bytes:
    """Return all bytes from the edge in a transcript."""
    return _side(name, "< ")


def _side(name: str, mark: str) -> bytes:
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    return b"".join(unescape(line[2:]) for line in lines if line.startswith(mark))


def replay(name: str, text: str) -> Iterator[str]:
    """Yield the transcript with the edge's current answers; comments and the mail server's side are kept."""
    session, incoming = session_of(name, golden_service()), b""
    for line in [*text.splitlines(), ""]:
        if line.startswith("> "):
            incoming += unescape(line[2:])
        elif incoming:
            reply, incoming = session.receive(incoming, NOW_MS), b""
            yield from [f"< {escape(reply)}"] if reply else []
            yield from ["= ended"] if session.ended else []
        if line and not line.startswith(("< ", "= ")):
            yield line
