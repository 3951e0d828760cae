"""Clients' sockets (TCP, UNIX and those opened by systemd), with limits on their number, on time and on unsent replies.

A client beyond `ClientLimits.connections` is refused immediately. A client whose request is incomplete after
`request_timeout_s`, or that doesn't read its reply, is cut off; one that sends no request for `idle_timeout_s` is disconnected.
In every case the mail server applies its configuration for an unavailable service: mail flows.

One periodic sweep serves all clients, so ten thousand idle ones cost no timers and a request needs no clock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from engine.config.validators import ListenAddress, parse_listen_addresses
from engine.edge.protocols.session import ProtocolSession
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
FIRST_FD = 3
BACKLOG = 1024
SOCKET_MODE = 0o666  # the socket's folder controls access


def now_ms() -> int:
    """Return the Unix time in ms."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits on the clients of all protocols together."""

    connections: int
    request_timeout_s: float
    idle_timeout_s: float


@dataclass(slots=True)
class Clients:
    """The connected clients of all protocols."""

    limits: ClientLimits
    connected: set[ClientProtocol] = field(default_factory=set)
    refused: int = 0
    cut_off: int = 0

    def sweep(self, now_s: float) -> None:
        """Cut off slow clients and disconnect idle ones. `now_s` is the event loop's time."""
        slow_s, idle_s = now_s - self.limits.request_timeout_s, now_s - self.limits.idle_timeout_s
        for client in list(self.connected):
            if client.is_active:
                client.is_active, client.active_s = False, now_s
            if 0 < client.pending_since_s < slow_s:
                self.cut_off += 1
                client.transport.abort()
            elif client.active_s < idle_s:
                client.transport.close()


class ClientProtocol(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, clients: Clients) -> None:
        self.clients, self.clock = clients, asyncio.get_running_loop().time
        self.pending_since_s = 0.0  # start of an incomplete request or of an unread reply; 0 if there is neither
        self.is_active = False  # sent data since the last sweep
        self.active_s = self.clock()  # time of the last sweep that found the client active

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the client; refuse it beyond the limit."""
        self.transport = cast(asyncio.Transport, transport)
        if len(self.clients.connected) >= self.clients.limits.connections:
            self.clients.refused += 1
            self.transport.abort()
        else:
            self.clients.connected.add(self)

    def pause_writing(self) -> None:
        """Stop reading requests, because the client doesn't read its replies."""
        self.transport.pause_reading()
        self.pending_since_s = self.clock()

    def resume_writing(self) -> None:
        """Read requests again, because the client has read its replies."""
        self.transport.resume_reading()
        self.pending_since_s = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the client."""
        self.clients.connected.discard(self)


class SessionClient(ClientProtocol):
    """A client of one of the session protocols."""

    def __init__(self, session: ProtocolSession, clients: Clients) -> None:
        super().__init__(clients)
        self._session = session

    def data_received(self, data: bytes) -> None:
        """Reply immediately, in one write. That write may pause reading, so the pending time is set first."""
        session = self._session
        reply = session.receive(data, now_ms())
        self.is_active = True
        self.pending_since_s = (self.pending_since_s or self.clock()) if session.rest else 0.0
        if reply:
            self.transport.write(reply)
        if session.ended:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the client and close its session."""
        super().connection_lost(exc)
        self._session.close()


class DatagramServer(asyncio.DatagramProtocol):
    """A UDP socket that sends `respond(packet, now_ms)` back, if it isn't empty."""

    def __init__(self, respond: Callable[[bytes, int], bytes]) -> None:
        self._respond = respond

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for replies."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Reply to a packet."""
        reply = self._respond(data, now_ms())
        if reply:
            self._transport.sendto(reply, addr)


def systemd_sockets() -> dict[str, list[ListenAddress]]:
    """Return the sockets that systemd opened for this process, by name (``FileDescriptorName=``)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    addresses: dict[str, list[ListenAddress]] = {}
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        name = names[number] if number < len(names) else ""
        addresses.setdefault(name, []).append(ListenAddress(opened=socket.socket(fileno=FIRST_FD + number)))
    return addresses


def _bind_unix(path: Path) -> ListenAddress:
    """Bind a UNIX socket; replaces one that a former process left."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(SOCKET_MODE)
    return ListenAddress(opened=bound)


def bind_addresses(options: Mapping[str, str], processes: int) -> dict[str, list[ListenAddress]]:
    """Return where each protocol listens, given the option of each; systemd's sockets take precedence.

    UNIX sockets are bound here, for all processes; of a TCP port each process opens a socket of its own. Raises `OperatorError`
    if processes cannot share a port, or if two protocols would (the kernel would distribute clients among them).
    """
    bound, protocols = systemd_sockets(), dict[tuple[str, int], str]()
    for name, option in options.items():
        if name in bound:
            continue
        addresses = parse_listen_addresses(option)
        for address in addresses:
            other = protocols.setdefault((address.host, address.port), name) if address.port else name
            if other != name:
                raise OperatorError(
                    f"edge.{other} and edge.{name} both listen on {address.host}:{address.port}: choose different ports"
                )
        if processes > 1 and any(not address.path and not address.port for address in addresses):
            raise OperatorError(
                f"edge.{name}: several processes can't share port 0, which is a different port in each: choose a port"
            )
        bound[name] = [_bind_unix(Path(address.path)) if address.path else address for address in addresses]
    return bound


async def listen(address: ListenAddress, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Start a stream server. Several processes may share a TCP port; the kernel distributes the clients."""
    loop = asyncio.get_running_loop()
    if address.opened is not None and address.opened.family == socket.AF_UNIX:
        return await loop.create_unix_server(protocol, sock=address.opened, backlog=BACKLOG)
    if address.opened is not None:
        return await loop.create_server(protocol, sock=address.opened, backlog=BACKLOG)
    return await loop.create_server(protocol, address.host, address.port, reuse_port=address.port != 0, backlog=BACKLOG)


async def listen_datagrams(address: ListenAddress, protocol: Callable[[], DatagramServer]) -> asyncio.DatagramTransport:
    """Open a UDP socket."""
    loop = asyncio.get_running_loop()
    if address.opened is not None:
        transport, _ = await loop.create_datagram_endpoint(protocol, sock=address.opened)
    else:
        transport, _ = await loop.create_datagram_endpoint(
            protocol, (address.host, address.port), reuse_port=address.port != 0
        )
    return transport


def notify_ready() -> None:
    """Report to systemd, if it asked for it, that the sockets are served."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.send(b"READY=1")
