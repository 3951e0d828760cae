r"""Postfix SMTP access policy delegation (SMTPD_POLICY_README): attributes a line, an empty line ends the request.

Answers ``action=DUNNO`` or ``action=451 4.7.5xx ...``. A request that isn't one gets no answer and the end of the
connection, as Postfix wants it; Postfix then does what ``default_action`` says. Postfix asks at every recipient, and again
for each restriction list: `instance` names the message, client address and port the connection. One smtpd process serves
one client at a time over one policy connection, so another client on it means that the former has gone.

Six of about 30 attributes count, and a Postfix sends all of them in the same order each time: the order of its first request
becomes a regular expression, which checks that a request is whole and takes it apart at once. Requests in another order, in
pieces or several at a time are taken apart line by line, which takes ten times as long. Values can't contain line breaks. Two
more attributes, the client's names, are read where names are exempt and a message would be deferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.edge.lookup import EXCESS
from engine.edge.protocols.session import REQUEST_OCTETS, Session
from engine.edge.service import Desk

DUNNO = b"action=DUNNO\n\n"
NO_MESSAGE_YET = frozenset((b"CONNECT", b"EHLO", b"HELO", b"VRFY", b"ETRN"))
KIND = b"request=smtpd_access_policy"
WANTED = (b"protocol_state", b"recipient", b"client_address", b"instance", b"client_port")
MOST_SHAPES = 32


class Shape(NamedTuple):
    """An order of attributes. ``match``: recognises whole requests that have it; ``groups``: of a match, the numbers of
    `WANTED`."""

    match: Callable[[bytes], re.Match[bytes] | None]
    groups: Sequence[int]


_shapes: dict[tuple[bytes, ...], Shape] = {}
_no_shape = Shape(re.compile(rb"(?!)").fullmatch, ())


def _shape(lines: list[bytes]) -> Shape:
    """The shape of requests that have the same attributes as this one, in the same order, as far as the last of `WANTED`."""
    names = tuple(line.partition(b"=")[0] for line in lines)
    if lines[0] != KIND or not set(WANTED) <= set(names):
        return _no_shape
    names = names[1 : 1 + max(map(names.index, WANTED))]
    if names not in _shapes and len(_shapes) < MOST_SHAPES:
        _shapes[names] = _shape_of(names)
    return _shapes.get(names, _no_shape)


def _shape_of(names: tuple[bytes, ...]) -> Shape:
    found = sorted(WANTED, key=names.index)  # of several of a name the first counts
    first = {names.index(name) for name in WANTED}
    values = (rb"=(.*+)\n" if place in first else rb"=.*+\n" for place in range(len(names)))
    pattern = b"".join(re.escape(name) + value for name, value in zip(names, values, strict=True))
    match = re.compile(re.escape(KIND) + rb"\n" + pattern + rb"(?:.++\n)*+\n").fullmatch
    return Shape(match, [1 + found.index(name) for name in WANTED])


def _client_names(request: bytes) -> tuple[str, str]:
    """The client's name, found from its address and back again ("unknown" without one), and what it says of itself."""
    said = dict(line.partition(b"=")[::2] for line in request.split(b"\n"))
    return said.get(b"client_name", b"").decode("latin-1"), said.get(b"helo_name", b"").decode("latin-1")


class PolicySession(Session):
    """The conversation with one smtpd process."""

    def __init__(self, desk: Desk, limit: int = REQUEST_OCTETS) -> None:
        super().__init__(desk, limit)
        self._key = b""
        self._match, self._groups = _no_shape

    def receive(self, octets: bytes, now_ms: int) -> bytes:
        """Whole requests are answered in order; nearly always it is one, in one piece."""
        if not self.rest and len(octets) <= self.limit and (found := self._match(octets)) is not None:
            reply = self._refer(octets, found.group(*self._groups), now_ms)
            return reply or self.malformed()
        octets = self.rest + octets
        out, at = b"", 0
        while (end := octets.find(b"\n\n", at)) >= 0:
            if end - at > self.limit or not (reply := self._answer(octets[at:end], now_ms)):
                return out + self.malformed()
            out += reply
            at = end + 2
        self.rest = octets[at:]
        return out + self.malformed() if len(self.rest) > self.limit else out

    def close(self) -> None:
        """The smtpd process has gone, and its client."""
        self.desk.connections.end(self._key)

    def _answer(self, request: bytes, now_ms: int) -> bytes:
        """Nothing if it is no request."""
        lines = request.split(b"\n")
        self._match, self._groups = _shape(lines)
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
