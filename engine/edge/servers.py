"""Sessions on sockets: TCP, UNIX and those that systemd opened, with limits on connections, on time and on what is unsent.

A client beyond `Limits.connections` is turned away at once; one whose request isn't whole within `request_timeout_s`, or who
doesn't take its answer, is cut off; one who asks nothing for long is disconnected. In every case the MTA does what
its own configuration says for a service that isn't there: mail flows. One sweep looks after all of them, so ten
thousand idle clients cost no timers and a request no look at the clock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from engine.config.validators import listed
from engine.edge.protocols.session import Session
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
FIRST_FD = 3
BACKLOG = 1024
SOCKET_MODE = 0o666  # its folder decides who may come in


def now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server puts up with."""

    connections: int
    request_timeout_s: float
    idle_timeout_s: float


@dataclass(slots=True)
class Clients:
    """All wires of the edge, of all protocols."""

    limits: Limits
    wires: set[Client] = field(default_factory=set)
    refused: int = 0
    cut_off: int = 0

    def sweep(self, now_s: float) -> None:
        """Cut off who is too slow, disconnect who is idle."""
        slow_s, idle_s = now_s - self.limits.request_timeout_s, now_s - self.limits.idle_timeout_s
        for wire in list(self.wires):
            if wire.heard:
                wire.heard, wire.heard_s = False, now_s
            if 0 < wire.waiting_since_s < slow_s:
                self.cut_off += 1
                wire.transport.abort()
            elif wire.heard_s < idle_s:
                wire.transport.close()


class Client(asyncio.Protocol):
    """One client's connection. ``waiting_since_s``: since when a request isn't whole or an answer not taken, 0 if neither;
    ``heard``: it has said something since the last sweep, which notes the time as ``heard_s``."""

    transport: asyncio.Transport

    def __init__(self, clients: Clients) -> None:
        self.clients, self.clock = clients, asyncio.get_running_loop().time
        self.waiting_since_s = 0.0
        self.heard, self.heard_s = False, self.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come; one too many is turned away."""
        self.transport = cast(asyncio.Transport, transport)
        if len(self.clients.wires) >= self.clients.limits.connections:
            self.clients.refused += 1
            self.transport.abort()
        else:
            self.clients.wires.add(self)

    def pause_writing(self) -> None:
        """The client doesn't take its answers: read no more of its requests."""
        self.transport.pause_reading()
        self.waiting_since_s = self.clock()

    def resume_writing(self) -> None:
        """It has taken them."""
        self.transport.resume_reading()
        self.waiting_since_s = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.clients.wires.discard(self)


class Wire(Client):
    """A client that speaks one of the protocols of sessions."""

    def __init__(self, session: Session, clients: Clients) -> None:
        super().__init__(clients)
        self._session = session

    def data_received(self, data: bytes) -> None:
        """Octets have come: answer at once. All answers to them are one write, which may find that nobody takes them."""
        session = self._session
        reply = session.receive(data, now_ms())
        self.heard = True
        self.waiting_since_s = (self.waiting_since_s or self.clock()) if session.rest else 0.0
        if reply:
            self.transport.write(reply)
        if session.ended:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        super().connection_lost(exc)
        self._session.close()


class Datagrams(asyncio.DatagramProtocol):
    """One answer a packet, or none."""

    def __init__(self, answer: Callable[[bytes, int], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A packet has come."""
        reply = self._answer(data, now_ms())
        if reply:
            self._transport.sendto(reply, addr)


class Place(NamedTuple):
    """Where to listen: a host and port, a path, or a socket that is open already."""

    host: str = ""
    port: int = 0
    path: str = ""
    opened: socket.socket | None = None


def places(option: str) -> Iterator[Place]:
    """The places that an option names."""
    for part in listed(option):
        if part.startswith("unix:"):
            yield Place(path=part.removeprefix("unix:"))
        else:
            host, _, port = part.rpartition(":")
            yield Place(host.removeprefix("[").removesuffix("]"), int(port))


def activated() -> dict[str, list[Place]]:
    """The sockets that systemd opened for this process, by name (``FileDescriptorName=``)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[Place]] = {}
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        name = names[number] if number < len(names) else ""
        found.setdefault(name, []).append(Place(opened=socket.socket(fileno=FIRST_FD + number)))
    return found


def _unix_socket(path: Path) -> socket.socket:
    """A socket at a path; what is there is a former one, left behind."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(SOCKET_MODE)
    return bound


def opened(asked: Mapping[str, str], processes: int) -> dict[str, list[Place]]:
    """Where each protocol is asked for, by its name, from what its option says; systemd's sockets go first. UNIX sockets are
    open, for all processes; of a TCP port each opens a socket of its own. `OperatorError` if they can't share one, or two
    protocols would: the kernel deals clients out to whoever listens."""
    found, taken = activated(), dict[tuple[str, int], str]()
    for name, option in asked.items():
        if name in found:
            continue
        found[name] = list(places(option))
        for place in found[name]:
            other = taken.setdefault((place.host, place.port), name) if place.port else name
            if other != name:
                raise OperatorError(
                    f"edge.{other} and edge.{name} are both at {place.host}:{place.port}: give each its own"
                )
        if processes > 1 and any(not place.path and not place.port for place in found[name]):
            raise OperatorError(
                f"edge.{name}: several processes can't share port 0, which is another one for each: give one"
            )
        found[name] = [Place(opened=_unix_socket(Path(at.path))) if at.path else at for at in found[name]]
    return found


async def listen(place: Place, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """A server at a place. Several processes may share a TCP port: the kernel deals out the clients."""
    loop = asyncio.get_running_loop()
    if place.opened is not None and place.opened.family == socket.AF_UNIX:
        return await loop.create_unix_server(protocol, sock=place.opened, backlog=BACKLOG)
    if place.opened is not None:
        return await loop.create_server(protocol, sock=place.opened, backlog=BACKLOG)
    return await loop.create_server(protocol, place.host, place.port, reuse_port=place.port != 0, backlog=BACKLOG)


async def listen_datagrams(place: Place, protocol: Callable[[], Datagrams]) -> asyncio.DatagramTransport:
    """A UDP socket at a place."""
    loop = asyncio.get_running_loop()
    if place.opened is not None:
        transport, _ = await loop.create_datagram_endpoint(protocol, sock=place.opened)
    else:
        transport, _ = await loop.create_datagram_endpoint(
            protocol, (place.host, place.port), reuse_port=place.port != 0
        )
    return transport


def notify_ready() -> None:
    """Tell systemd, if it asked, that the sockets are served."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            notifying.connect("\0" + address[1:] if address.startswith("@") else address)
            notifying.send(b"READY=1")
