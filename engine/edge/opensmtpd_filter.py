"""`tidegate filter`: OpenSMTPD's filter on standard input and output, in front of an edge that it asks over a socket.

A filter that ends takes smtpd with it, so this one knows nothing and can't fail by itself: it registers, hands lines on, and
answers "proceed" for an edge that is gone, silent for `PATIENCE_S`, or `MOST_UNSENT` octets behind. It looks for a lost edge
again every `AGAIN_S`; sessions that began before then proceed, as the new connection doesn't know them. It ends with smtpd, and
holds no more than smtpd has sessions. Standard input and output may be one socket, which asyncio can't be trusted with;
the system's selectors are all that is needed.
"""

from __future__ import annotations

import os
import selectors
import socket
import time

from engine.edge.protocols.opensmtpd import REGISTRATION
from engine.edge.servers import Place

INPUT, OUTPUT = 0, 1
PATIENCE_S, AGAIN_S, TICK_S = 2.0, 0.5, 0.1
MOST_UNSENT = 1 << 20
CHUNK = 1 << 16


class Waiting:
    """Lines between smtpd and the edge, without any I/O: which questions wait for an answer, and since when."""

    def __init__(self) -> None:
        self._asked_s: dict[bytes, float] = {}

    def ask(self, line: bytes, now_s: float) -> None:
        """A line from smtpd; a question waits from now on."""
        parts = line.split(b"|")
        if len(parts) >= 7 and parts[0] == b"filter":
            self._asked_s[b"|".join(parts[5:7])] = now_s

    def answer(self, line: bytes) -> bytes:
        """A line from the edge; nothing if it isn't waited for."""
        parts = line.split(b"|", 3)
        if len(parts) < 4 or self._asked_s.pop(b"|".join(parts[1:3]), None) is None:
            return b""
        return line + b"\n"

    def give_up(self, asked_before_s: float) -> bytes:
        """What is said for questions that have waited since before a time: proceed."""
        late = [name for name, asked_s in self._asked_s.items() if asked_s <= asked_before_s]
        for name in late:
            del self._asked_s[name]
        return b"".join(b"filter-result|" + name + b"|proceed\n" for name in late)


class Relay:
    """The process between smtpd and the edge at ``place``."""

    def __init__(self, place: Place) -> None:
        self._place, self._waiting = place, Waiting()
        self._selector = selectors.DefaultSelector()
        self._edge: socket.socket | None = None
        self._from_smtpd = self._from_edge = self._unsent = b""
        self._again_s = 0.0

    def run(self) -> None:
        """Until smtpd closes."""
        self._selector.register(INPUT, selectors.EVENT_READ)
        while True:
            self._connect(time.monotonic())
            for key, _ in self._selector.select(TICK_S):
                if key.fd != INPUT:
                    self._hear_edge()
                elif not self._hear_smtpd(time.monotonic()):
                    return
            self._send()
            late = self._waiting.give_up(time.monotonic() - PATIENCE_S)
            if late:
                _say(late)
                self._lose()

    def _hear_smtpd(self, now_s: float) -> bool:
        octets = os.read(INPUT, CHUNK)
        *lines, self._from_smtpd = (self._from_smtpd + octets).split(b"\n")
        for line in lines:
            if line == b"config|ready":
                _say(REGISTRATION)
            elif not line.startswith(b"config|"):
                self._waiting.ask(line, now_s)
                self._unsent += line + b"\n"
        self._send()
        return bool(octets)

    def _hear_edge(self) -> None:
        try:
            octets = self._edge.recv(CHUNK) if self._edge else b""
        except OSError:
            octets = b""
        *lines, self._from_edge = (self._from_edge + octets).split(b"\n")
        _say(b"".join(map(self._waiting.answer, lines)))
        if not octets:
            self._lose()

    def _send(self) -> None:
        if self._edge is None:
            self._lose()
            return
        try:
            self._unsent = self._unsent[self._edge.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
        if len(self._unsent) > MOST_UNSENT:
            self._lose()

    def _lose(self) -> None:
        """There is no edge any more: whoever waits proceeds."""
        if self._edge is not None:
            self._selector.unregister(self._edge)
            self._edge.close()
        self._edge, self._unsent, self._from_edge = None, b"", b""
        _say(self._waiting.give_up(time.monotonic()))

    def _connect(self, now_s: float) -> None:
        if self._edge is not None or now_s < self._again_s:
            return
        self._again_s = now_s + AGAIN_S
        edge = socket.socket(socket.AF_UNIX if self._place.path else socket.AF_INET)
        edge.settimeout(TICK_S)
        try:
            edge.connect(self._place.path or (self._place.host, self._place.port))
        except OSError:
            edge.close()
            return
        edge.setblocking(False)
        self._selector.register(edge, selectors.EVENT_READ)
        self._edge = edge


def _say(octets: bytes) -> None:
    while octets:
        octets = octets[os.write(OUTPUT, octets) :]
