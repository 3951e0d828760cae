"""The listeners of one edge: each protocol's sessions on the sockets of its option.

DNS listens on TCP and, at the same address, on UDP. A UNIX socket or one of systemd's is served as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial

from engine.config.edge_options import EdgeOptions
from engine.config.validators import ListenAddress
from engine.edge.protocols.dns import DnsSession, DnsZone
from engine.edge.protocols.http import HttpApi
from engine.edge.protocols.milter import MilterSession
from engine.edge.protocols.opensmtpd import OpensmtpdSession
from engine.edge.protocols.policy import PolicySession
from engine.edge.protocols.readsocket import ReadsocketSession
from engine.edge.protocols.session import ProtocolSession
from engine.edge.protocols.socketmap import SocketmapSession
from engine.edge.protocols.tcptable import TcpTableSession
from engine.edge.servers import Clients, DatagramServer, SessionClient, listen, listen_datagrams
from engine.edge.service import EdgeService
from engine.edge.web import http_protocol
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
Listener = asyncio.Server | asyncio.DatagramTransport


def listen_options(options: EdgeOptions) -> dict[str, str]:
    """Return the value of each protocol's option, by protocol."""
    return {
        "policy": options.policy,
        "http": options.http,
        "milter": options.milter,
        "socketmap": options.socketmap,
        "tcp_table": options.tcp_table,
        "readsocket": options.readsocket,
        "opensmtpd": options.opensmtpd,
        "dns": options.dns,
    }


class Listeners:
    """Listens for all protocols of an edge. `api` answers HTTP, `service` all others."""

    def __init__(self, options: EdgeOptions, service: EdgeService, clients: Clients, api: HttpApi) -> None:
        self._options, self._service, self._clients, self._api = options, service, clients, api
        self._open: list[Listener] = []

    async def open(self, addresses: Mapping[str, list[ListenAddress]]) -> None:
        """Listen on the addresses of each protocol. Raises `OperatorError` if one can't be bound."""
        for name, factory in self._factories().items():
            for address in addresses[name]:
                self._open += await self._listen(name, address, factory)

    def close(self) -> None:
        """Accept no further clients."""
        for listener in self._open:
            listener.close()

    def _factories(self) -> dict[str, Callable[[], asyncio.Protocol]]:
        """Return what makes a protocol for each client. aiohttp needs the running event loop."""
        return {
            "policy": self._sessions(PolicySession),
            "milter": self._sessions(MilterSession),
            "socketmap": self._sessions(SocketmapSession),
            "tcp_table": self._sessions(TcpTableSession),
            "readsocket": self._sessions(ReadsocketSession),
            "opensmtpd": self._sessions(OpensmtpdSession),
            "dns": self._sessions(partial(DnsSession, zone=self._options.dns_zone)),
            "http": http_protocol(self._api, self._clients, self._options.request_bytes),
        }

    def _sessions(self, session: Callable[..., ProtocolSession]) -> Callable[[], asyncio.Protocol]:
        return lambda: SessionClient(session(self._service, limit=self._options.request_bytes), self._clients)

    async def _listen(
        self, name: str, address: ListenAddress, factory: Callable[[], asyncio.Protocol]
    ) -> list[Listener]:
        zone = DnsZone(self._service, self._options.dns_zone)
        datagrams = partial(DatagramServer, zone.respond_datagram)
        if address.opened is not None and address.opened.type == socket.SOCK_DGRAM:
            return [await listen_datagrams(address, datagrams)]
        try:
            server = await listen(address, factory)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OperatorError(
                f"edge.{name} can't listen on {address.host}:{address.port} ({why}): choose another address"
            ) from error
        bound = server.sockets[0].getsockname()
        logger.info("%s listens on %s", name, ":".join(map(str, bound[:2])) if isinstance(bound, tuple) else bound)
        if name != "dns" or address.opened is not None:
            return [server]
        return [server, await listen_datagrams(address._replace(port=bound[1]), datagrams)]
