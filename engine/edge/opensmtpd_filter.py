"""`tidegate filter`: OpenSMTPD's filter on standard input and output, between smtpd and an edge on a socket.

A filter that ends takes smtpd down with it, so this one only registers and relays lines. It answers "proceed" itself while the
edge is gone, after it was silent for `TIMEOUT_S`, or after `MAX_UNSENT` bytes are unsent. It reconnects every `RECONNECT_S`;
sessions that began before then proceed, because the edge doesn't know them. The filter ends with smtpd. Its memory is bounded
by smtpd's number of sessions.

Standard input and output may be one socket, which asyncio doesn't support reliably; the system's selectors suffice.
"""

from __future__ import annotations

import os
import selectors
import socket
import time

from engine.config.validators import ListenAddress
from engine.edge.protocols.opensmtpd import REGISTRATION

INPUT, OUTPUT = 0, 1
TIMEOUT_S, RECONNECT_S, TICK_S = 2.0, 0.5, 0.1
MAX_UNSENT = 1 << 20
CHUNK = 1 << 16


class PendingQuestions:
    """smtpd's unanswered questions and their times, without I/O."""

    def __init__(self) -> None:
        self._asked_s: dict[bytes, float] = {}

    def add(self, line: bytes, now_s: float) -> None:
        """Record a line from smtpd, if it is a question."""
        parts = line.split(b"|")
        if len(parts) >= 7 and parts[0] == b"filter":
            self._asked_s[b"|".join(parts[5:7])] = now_s

    def answer(self, line: bytes) -> bytes:
        """Return the edge's line for smtpd; empty if it doesn't answer a pending question."""
        parts = line.split(b"|", 3)
        if len(parts) < 4 or self._asked_s.pop(b"|".join(parts[1:3]), None) is None:
            return b""
        return line + b"\n"

    def expire(self, asked_before_s: float) -> bytes:
        """Return "proceed" for all questions asked at or before a time, and remove them."""
        late = [name for name, asked_s in self._asked_s.items() if asked_s <= asked_before_s]
        for name in late:
            del self._asked_s[name]
        return b"".join(b"filter-result|" + name + b"|proceed\n" for name in late)


class OpensmtpdFilter:
    """The filter process for the edge at `address`."""

    def __init__(self, address: ListenAddress) -> None:
        self._address, self._pending = address, PendingQuestions()
        self._selector = selectors.DefaultSelector()
        self._edge: socket.socket | None = None
        self._from_smtpd = self._from_edge = self._unsent = b""
        self._reconnect_s = 0.0

    def run(self) -> None:
        """Relay lines until smtpd closes the input."""
        self._selector.register(INPUT, selectors.EVENT_READ)
        while True:
            self._connect(time.monotonic())
            for key, _ in self._selector.select(TICK_S):
                if key.fd != INPUT:
                    self._read_edge()
                elif not self._read_smtpd(time.monotonic()):
                    return
            self._send()
            expired = self._pending.expire(time.monotonic() - TIMEOUT_S)
            if expired:
                _write(expired)
                self._disconnect()

    def _read_smtpd(self, now_s: float) -> bool:
        data = os.read(INPUT, CHUNK)
        *lines, self._from_smtpd = (self._from_smtpd + data).split(b"\n")
        for line in lines:
            if line == b"config|ready":
                _write(REGISTRATION)
            elif not line.startswith(b"config|"):
                self._pending.add(line, now_s)
                self._unsent += line + b"\n"
        self._send()
        return bool(data)

    def _read_edge(self) -> None:
        try:
            data = self._edge.recv(CHUNK) if self._edge else b""
        except OSError:
            data = b""
        *lines, self._from_edge = (self._from_edge + data).split(b"\n")
        _write(b"".join(map(self._pending.answer, lines)))
        if not data:
            self._disconnect()

    def _send(self) -> None:
        if self._edge is None:
            self._disconnect()
            return
        try:
            self._unsent = self._unsent[self._edge.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            pass
        except OSError:
            self._disconnect()
        if len(self._unsent) > MAX_UNSENT:
            self._disconnect()

    def _disconnect(self) -> None:
        """Drop the edge's connection; all pending questions proceed."""
        if self._edge is not None:
            self._selector.unregister(self._edge)
            self._edge.close()
        self._edge, self._unsent, self._from_edge = None, b"", b""
        _write(self._pending.expire(time.monotonic()))

    def _connect(self, now_s: float) -> None:
        if self._edge is not None or now_s < self._reconnect_s:
            return
        self._reconnect_s = now_s + RECONNECT_S
        edge = socket.socket(socket.AF_UNIX if self._address.path else socket.AF_INET)
        edge.settimeout(TICK_S)
        try:
            edge.connect(self._address.path or (self._address.host, self._address.port))
        except OSError:
            edge.close()
            return
        edge.setblocking(False)
        self._selector.register(edge, selectors.EVENT_READ)
        self._edge = edge


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(OUTPUT, data) :]
