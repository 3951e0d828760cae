"""OpenSMTPD's filter protocol (smtpd-filters, versions 0.5 to 0.7), one line each, as `engine.edge.opensmtpd_filter` relays it.

The filter registers for the reports link-connect and link-disconnect, and for the filter mail-from, which answers with the 451.
Unknown sessions, which began before the filter did, proceed. Limit: `MAX_SESSIONS` are tracked; further ones proceed unchecked.
"""

from __future__ import annotations

from engine.edge.protocols.session import REQUEST_BYTES, LineSession, MalformedRequest
from engine.edge.service import EdgeService

REGISTRATION = (
    b"register|report|smtp-in|link-connect\n"
    b"register|report|smtp-in|link-disconnect\n"
    b"register|filter|smtp-in|mail-from\n"
    b"register|ready\n"
)
MAX_SESSIONS = 100_000


def client_of(source: str) -> str:
    """Return the address in ``192.0.2.7:4711`` or ``[2001:db8::7]:4711``; "" for ``local`` and ``unix:...``."""
    address, colon, port = source.rpartition(":")
    if not colon or not port.isdigit() or address.startswith("unix"):
        return ""
    return address.removeprefix("[").removesuffix("]").removeprefix("IPv6:")


class OpensmtpdSession(LineSession):
    """A conversation with one smtpd."""

    def __init__(self, service: EdgeService, limit: int = REQUEST_BYTES) -> None:
        super().__init__(service, limit)
        self._clients: dict[str, str] = {}
        self._messages = 0

    def close(self) -> None:
        """End the connections of all clients, because the filter has disconnected."""
        for session in self._clients:
            self.service.connections.end(f"opensmtpd {session}")

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Register when smtpd is ready, record reports, answer filters."""
        parts = request.decode("latin-1").split("|")
        if parts == ["config", "ready"]:
            return REGISTRATION
        if parts[0] == "config":
            return b""
        if len(parts) >= 6 and parts[0] == "report":
            self._report(parts)
            return b""
        if len(parts) >= 7 and parts[0] == "filter":
            return self._filter(parts[5], parts[6], now_ms)
        raise MalformedRequest

    def _report(self, parts: list[str]) -> None:
        event, session = parts[4], parts[5]
        if event == "link-connect" and len(parts) >= 9 and len(self._clients) < MAX_SESSIONS:
            ip = client_of(parts[8])
            if ip:
                self._clients[session] = ip
        elif event == "link-disconnect" and self._clients.pop(session, None) is not None:
            self.service.connections.end(f"opensmtpd {session}")

    def _filter(self, session: str, token: str, now_ms: int) -> bytes:
        ip = self._clients.get(session, "")
        reply = ""
        if ip:
            self._messages += 1
            result = self.service.check(f"opensmtpd {session}", ip, str(self._messages), "", now_ms)
            reply = self.service.reply(result, ip)
        verdict = f"reject|{reply}" if reply else "proceed"
        return f"filter-result|{session}|{token}|{verdict}\n".encode()
