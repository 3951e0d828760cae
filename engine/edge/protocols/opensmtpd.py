"""OpenSMTPD's filter protocol (smtpd-filters, versions 0.5 to 0.7), a line each, as `engine.edge.opensmtpd_filter` hands it on.

Asked for: the reports link-connect and link-disconnect, and the filter mail-from, at which the 451 is given. Sessions that
are unknown (they began before the filter did) proceed. At most `MOST_SESSIONS` are remembered; more proceed unasked.
"""

from __future__ import annotations

from engine.edge.protocols.session import REQUEST_OCTETS, LineSession
from engine.edge.service import Desk

REGISTRATION = (
    b"register|report|smtp-in|link-connect\n"
    b"register|report|smtp-in|link-disconnect\n"
    b"register|filter|smtp-in|mail-from\n"
    b"register|ready\n"
)
MOST_SESSIONS = 100_000


def client_of(source: str) -> str:
    """The address in ``192.0.2.7:4711`` or ``[2001:db8::7]:4711``; "" for ``local`` and ``unix:...``."""
    address, colon, port = source.rpartition(":")
    if not colon or not port.isdigit() or address.startswith("unix"):
        return ""
    return address.removeprefix("[").removesuffix("]").removeprefix("IPv6:")


class OpensmtpdSession(LineSession):
    """The conversation with one smtpd."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, limit)
        self._clients: dict[str, str] = {}
        self._messages = 0

    def close(self) -> None:
        """The filter has gone, and with it what we know of its clients."""
        for session in self._clients:
            self.desk.connections.end(f"opensmtpd {session}")

    def answer(self, line: bytes, now_ms: int) -> bytes:
        """Register when smtpd is ready, note reports, answer filters."""
        parts = line.decode("latin-1").split("|")
        if parts == ["config", "ready"]:
            return REGISTRATION
        if parts[0] == "config":
            return b""
        if len(parts) >= 6 and parts[0] == "report":
            self._report(parts)
            return b""
        if len(parts) >= 7 and parts[0] == "filter":
            return self._filter(parts[5], parts[6], now_ms)
        return self.malformed()

    def _report(self, parts: list[str]) -> None:
        event, session = parts[4], parts[5]
        if event == "link-connect" and len(parts) >= 9 and len(self._clients) < MOST_SESSIONS:
            ip = client_of(parts[8])
            if ip:
                self._clients[session] = ip
        elif event == "link-disconnect" and self._clients.pop(session, None) is not None:
            self.desk.connections.end(f"opensmtpd {session}")

    def _filter(self, session: str, token: str, now_ms: int) -> bytes:
        ip = self._clients.get(session, "")
        line = ""
        if ip:
            self._messages += 1
            line = self.desk.line(self.desk.ask(f"opensmtpd {session}", ip, str(self._messages), "", now_ms), ip)
        verdict = f"reject|{line}" if line else "proceed"
        return f"filter-result|{session}|{token}|{verdict}\n".encode()
