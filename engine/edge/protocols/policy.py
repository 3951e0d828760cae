r"""Postfix SMTP access policy delegation (SMTPD_POLICY_README): attributes a line, an empty line ends the request.

Answers ``action=DUNNO`` or ``action=451 4.7.5xx ...``. A request that isn't one gets no answer and the end of the
connection, as Postfix wants it; Postfix then does what ``default_action`` says. Postfix asks at every recipient, and again
for each restriction list: `instance` names the message, client address and port the connection. One smtpd process serves
one client at a time over one policy connection, so another client on it means that the former has gone.

Six of about 30 attributes count, and Postfix sends them in the same order each time: their lines are remembered and only
checked, because searching for them took longer than everything else together. Values can't contain line breaks.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from engine.edge.desk import Desk
from engine.edge.protocols.session import REQUEST_OCTETS, Session

DUNNO = b"action=DUNNO\n\n"
NO_MESSAGE_YET = frozenset((b"CONNECT", b"EHLO", b"HELO", b"VRFY", b"ETRN"))
KIND, STATE, RECIPIENT = b"request=smtpd_access_policy", b"protocol_state=", b"recipient="
ADDRESS, INSTANCE, PORT = b"client_address=", b"instance=", b"client_port="
NAMES = (KIND, STATE, RECIPIENT, ADDRESS, INSTANCE, PORT)


def _places(lines: list[bytes]) -> list[int]:
    """In which line each of `NAMES` is; -1, the empty line at the end, if it isn't there."""
    return [next((at for at, line in enumerate(lines) if line.startswith(name)), -1) for name in NAMES]


class PolicySession(Session):
    """The conversation with one smtpd process."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, limit)
        self._rest = b""
        self._key = ""
        self._lines = 0
        self._chosen: itemgetter[Any] = itemgetter(*[-1] * len(NAMES))

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole requests are answered in order; nearly always it is one, in one piece."""
        if self._rest:
            octets = self._rest + octets
        out, at, size = b"", 0, len(octets)
        while (end := octets.find(b"\n\n", at)) >= 0:
            request = octets if not at and end + 2 == size else octets[at : end + 2]
            if end - at > self.limit or not (reply := self._answer(request, now_ms)):
                return out + self.malformed()
            out = out + reply if out else reply
            at = end + 2
        self._rest = octets[at:]
        return out + self.malformed() if len(self._rest) > self.limit else out

    @property
    def pending(self) -> bool:
        """Whether a request has begun."""
        return bool(self._rest)

    def close(self) -> None:
        """The smtpd process has gone, and its client."""
        self.desk.connections.end(self._key)

    def _attributes(self, request: bytes) -> tuple[bytes, ...]:
        """The lines of `NAMES`, b"" for those that aren't there."""
        lines = request.split(b"\n")
        if len(lines) == self._lines:
            found: tuple[bytes, ...] = self._chosen(lines)
            if all(map(bytes.startswith, found, NAMES)):
                return found
        self._lines, self._chosen = len(lines), itemgetter(*_places(lines))
        return tuple(self._chosen(lines))

    def _answer(self, request: bytes, now_ms: int) -> bytes:
        """Nothing if it is no request."""
        kind, state, recipient, address, instance, port = self._attributes(request)
        ip = address[len(ADDRESS) :].decode("latin-1")
        if not ip or kind != KIND:
            return b""
        message = instance[len(INSTANCE) :].decode("latin-1")
        key = f"{ip} {port[len(PORT) :].decode('latin-1') or message}"
        if key != self._key:
            self.desk.connections.end(self._key)
            self._key = key
        if state[len(STATE) :] in NO_MESSAGE_YET:
            answer = self.desk.greet(key, ip, now_ms)
        else:
            answer = self.desk.ask(key, ip, message, recipient[len(RECIPIENT) :].decode("latin-1"), now_ms)
        line = self.desk.line(answer, ip)
        return f"action={line}\n\n".encode() if line else DUNNO
