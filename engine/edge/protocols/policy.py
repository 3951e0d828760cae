r"""Postfix SMTP access policy delegation (SMTPD_POLICY_README): one attribute per line, an empty line ends the request.

The answer is ``action=DUNNO`` or ``action=451 4.7.5xx ...``. A malformed request gets no answer and ends the connection, as
Postfix expects; Postfix then applies ``default_action``. Postfix asks at every recipient, and again for each restriction list:
`instance` names the message, client address and port name the connection. One smtpd process serves one client at a time over
one policy connection, so a request about another client ends the former client's connection.

Six of about 30 attributes are used, and a Postfix sends all of them in the same order each time. The order of its first request
becomes a regular expression, which checks that a request is complete and parses it in one step. Requests in another order, in
pieces or several at a time are parsed line by line, which takes ten times as long. Values cannot contain line breaks. Two
more attributes, the client's names, are read if names are exempt and a message would be deferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.edge.lookup import EXCESS
from engine.edge.protocols.session import REQUEST_BYTES, MalformedRequest, ProtocolSession, Request
from engine.edge.service import EdgeService

DUNNO = b"action=DUNNO\n\n"
BEFORE_MESSAGE = frozenset((b"CONNECT", b"EHLO", b"HELO", b"VRFY", b"ETRN"))
KIND = b"request=smtpd_access_policy"
ADDRESS = b"client_address"
WANTED = (b"protocol_state", b"recipient", ADDRESS, b"instance", b"client_port")
END = b"\n\n"
MAX_ORDERS = 32


class AttributeOrder(NamedTuple):
    """An order of attributes that a Postfix sends."""

    match: Callable[[bytes], re.Match[bytes] | None]  # matches complete requests in this order that have an address
    groups: Sequence[int]  # the match's groups that hold the values of `WANTED`


_orders: dict[tuple[bytes, ...], AttributeOrder] = {}
_NO_ORDER = AttributeOrder(re.compile(rb"(?!)").fullmatch, ())


def _order_of(lines: list[bytes]) -> AttributeOrder:
    """Return the order of a request's attributes up to the last of `WANTED`. At most `MAX_ORDERS` are known."""
    names = tuple(line.partition(b"=")[0] for line in lines)
    if lines[0] != KIND or not set(WANTED) <= set(names):
        return _NO_ORDER
    names = names[1 : 1 + max(map(names.index, WANTED))]
    if names not in _orders and len(_orders) < MAX_ORDERS:
        _orders[names] = _compile(names)
    return _orders.get(names, _NO_ORDER)


def _compile(names: tuple[bytes, ...]) -> AttributeOrder:
    wanted = sorted(WANTED, key=names.index)  # the first of several attributes of one name counts
    values = {names.index(name): rb"=(.++)\n" if name == ADDRESS else rb"=(.*+)\n" for name in WANTED}
    pattern = b"".join(re.escape(name) + values.get(index, rb"=.*+\n") for index, name in enumerate(names))
    match = re.compile(re.escape(KIND) + rb"\n" + pattern + rb"(?:.++\n)*+\n").fullmatch
    return AttributeOrder(match, [1 + wanted.index(name) for name in WANTED])


def _client_names(request: bytes) -> tuple[str, str]:
    """Return the client's name as verified by DNS ("unknown" without one), and the name that it claims in HELO."""
    values = dict(line.partition(b"=")[::2] for line in request.split(b"\n"))
    return values.get(b"client_name", b"").decode("latin-1"), values.get(b"helo_name", b"").decode("latin-1")


class PolicySession(ProtocolSession):
    """A conversation with one smtpd process."""

    def __init__(self, service: EdgeService, limit: int = REQUEST_BYTES) -> None:
        super().__init__(service, limit)
        self._key = b""
        self._match, self._groups = _NO_ORDER

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Return the replies to all requests that `data` completes; nearly always it is one, in one piece."""
        if not self.rest and len(data) <= self.limit and (match := self._match(data)) is not None:
            return self._check(data, match.group(*self._groups), now_ms)
        return super().receive(data, now_ms)

    def next_request(self, buffer: bytes, start: int) -> Request | None:
        """Return the lines up to the next empty one."""
        end = buffer.find(END, start)
        if (len(buffer) if end < 0 else end) - start > self.limit:
            raise MalformedRequest
        return None if end < 0 else Request(buffer[start:end], end + len(END))

    def respond(self, request: bytes, now_ms: int) -> bytes:
        """Return the action for a request, and remember the order of its attributes."""
        lines = request.split(b"\n")
        self._match, self._groups = _order_of(lines)
        values = dict(line.partition(b"=")[::2] for line in reversed(lines))  # the first of several counts
        if KIND not in lines or not values.get(ADDRESS):
            raise MalformedRequest
        return self._check(request, [values.get(name, b"") for name in WANTED], now_ms)

    def close(self) -> None:
        """End the client's connection, because the smtpd process has disconnected."""
        self.service.connections.end(self._key)

    def _check(self, request: bytes, values: Sequence[bytes], now_ms: int) -> bytes:
        """Return the action for a request with these values of `WANTED`."""
        state, recipient, address, instance, port = values
        service, ip = self.service, address.decode("latin-1")
        key = address + b" " + (port or instance)
        if key != self._key:
            service.connections.end(self._key)
            self._key = key
        if state in BEFORE_MESSAGE:
            result = service.on_connect(key, ip, now_ms)
        else:
            result = service.check(key, ip, instance, recipient, now_ms)
        if result.why != EXCESS:
            return DUNNO
        if service.table.exempt_names and service.exempt_by_name(key, *_client_names(request), now_ms):
            return DUNNO
        return f"action={service.reply_text.line(result, ip)}\n\n".encode()
