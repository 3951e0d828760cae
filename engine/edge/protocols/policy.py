r"""Postfix SMTP access policy delegation (SMTPD_POLICY_README): attributes a line, an empty line ends the request.

Answers ``action=DUNNO`` or ``action=451 4.7.5xx ...``. A request that isn't one gets no answer and the end of the
connection, as Postfix wants it; Postfix then does what ``default_action`` says. Postfix asks at every recipient, and again
for each restriction list: `instance` names the message, client address and port the connection. One smtpd process serves
one client at a time over one policy connection, so another client on it means that the former has gone.

Six of about 30 attributes count, and Postfix sends them in the same order each time: the order becomes a regular expression,
which checks that a request is whole and takes it apart at once, in a microsecond. Requests in another order, in pieces or
several at a time are taken apart line by line, in five. Values can't contain line breaks. Two more attributes, the client's
names, are read where names are exempt and a message would be deferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from engine.edge.desk import Desk
from engine.edge.lookup import EXCESS
from engine.edge.protocols.session import REQUEST_OCTETS, Session

DUNNO = b"action=DUNNO\n\n"
NO_MESSAGE_YET = frozenset((b"CONNECT", b"EHLO", b"HELO", b"VRFY", b"ETRN"))
KIND = b"request=smtpd_access_policy"
WANTED = (b"protocol_state", b"recipient", b"client_address", b"instance", b"client_port")
MOST_SHAPES = 32

Shape = Callable[[bytes], re.Match[bytes] | None]
_shapes: dict[tuple[bytes, ...], Shape] = {}
_no_shape: Shape = re.compile(rb"(?!)").fullmatch


def _shape(lines: list[bytes]) -> Shape:
    """What recognises requests with the same attributes in the same order as this one, with a group for each of `WANTED`."""
    names = tuple(line.partition(b"=")[0] for line in lines)
    if tuple(name for name in names if name in WANTED) != WANTED or lines[0] != KIND:
        return _no_shape
    if names not in _shapes and len(_shapes) < MOST_SHAPES:
        values = [rb"=([^\n]*)" if name in WANTED else rb"=[^\n]*" for name in names]
        values[0] = KIND.removeprefix(names[0])
        pattern = b"".join(re.escape(name) + value + rb"\n" for name, value in zip(names, values, strict=True))
        _shapes[names] = re.compile(pattern + rb"\n").fullmatch
    return _shapes.get(names, _no_shape)


def _client_names(request: bytes) -> tuple[str, str]:
    """The client's name, found from its address and back again ("unknown" without one), and what it says of itself."""
    said = dict(line.partition(b"=")[::2] for line in request.split(b"\n"))
    return said.get(b"client_name", b"").decode("latin-1"), said.get(b"helo_name", b"").decode("latin-1")


class PolicySession(Session):
    """The conversation with one smtpd process."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, limit)
        self._rest = self._key = b""
        self._shape: Shape = _no_shape

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole requests are answered in order; nearly always it is one, in one piece."""
        if not self._rest and len(octets) <= self.limit:
            found = self._shape(octets)
            if found is not None and (reply := self._refer(octets, found.groups(), now_ms)):
                return reply
        octets = self._rest + octets
        out, at = b"", 0
        while (end := octets.find(b"\n\n", at)) >= 0:
            if end - at > self.limit or not (reply := self._answer(octets[at:end], now_ms)):
                return out + self.malformed()
            out += reply
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

    def _answer(self, request: bytes, now_ms: int) -> bytes:
        """Nothing if it is no request."""
        lines = request.split(b"\n")
        self._shape = _shape(lines)
        given = dict(line.partition(b"=")[::2] for line in reversed(lines))  # of several the first counts
        if KIND not in lines:
            return b""
        return self._refer(request, [given.get(name, b"") for name in WANTED], now_ms)

    def _refer(self, request: bytes, values: Sequence[bytes], now_ms: int) -> bytes:
        """The desk's answer to a request with these values of `WANTED`; nothing without an address."""
        state, recipient, address, instance, port = values
        desk, ip = self.desk, address.decode("latin-1")
        if not ip:
            return b""
        key = address + b" " + (port or instance)
        if key != self._key:
            desk.connections.end(self._key)
            self._key = key
        greeted = state in NO_MESSAGE_YET
        answer = desk.greet(key, ip, now_ms) if greeted else desk.ask(key, ip, instance, recipient, now_ms)
        if answer.why != EXCESS or (desk.table.names and desk.spares(key, *_client_names(request), now_ms)):
            return DUNNO
        return f"action={desk.reply.line(answer, ip)}\n\n".encode()
