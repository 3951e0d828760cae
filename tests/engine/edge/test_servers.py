"""Slow, idle, unresponsive and surplus clients are disconnected, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.config.validators import ListenAddress, parse_listen_addresses
from engine.edge.protocols.http import HttpApi
from engine.edge.protocols.policy import DUNNO, PolicySession
from engine.edge.servers import (
    ClientLimits,
    Clients,
    SessionClient,
    bind_addresses,
    listen,
    notify_ready,
    systemd_sockets,
)
from engine.edge.web import http_protocol
from tests.support.transcripts import golden_service
from topics.errors import OperatorError

REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=203.0.113.9\nclient_port=25\ninstance=1\n\n"
)


@asynccontextmanager
async def served(limits: ClientLimits, address: ListenAddress) -> AsyncIterator[tuple[Clients, asyncio.Server]]:
    clients, service = Clients(limits), golden_service()
    async with swept(clients, lambda: SessionClient(PolicySession(service), clients), address) as server:
        yield clients, server


@asynccontextmanager
async def swept(
    clients: Clients, protocol: Callable[[], asyncio.Protocol], address: ListenAddress
) -> AsyncIterator[asyncio.Server]:
    server = await listen(address, protocol)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.02)
            clients.sweep(asyncio.get_running_loop().time())

    sweeping = asyncio.create_task(sweep())
    try:
        yield server
    finally:
        sweeping.cancel()
        server.close()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def connect(server: asyncio.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(server))


async def ask(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    client[1].write(REQUEST)
    return await asyncio.wait_for(client[0].readuntil(b"\n\n"), 5)


async def wait_until_closed(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(client[0].read(), 5) == b""


LOCAL = ListenAddress("127.0.0.1")
PATIENT = ClientLimits(100, 30, 30)


async def test_slow_client_is_cut_off_and_others_are_served() -> None:
    async with served(ClientLimits(100, 0.2, 30), LOCAL) as (clients, server):
        slow, quick = await connect(server), await connect(server)
        for byte in REQUEST[:4]:
            slow[1].write(bytes([byte]))
            assert await ask(quick) == DUNNO
            await asyncio.sleep(0.1)
        await wait_until_closed(slow)
        assert clients.cut_off == 1
        assert await ask(quick) == DUNNO


async def test_http_client_with_slow_headers_is_cut_off_and_others_are_served() -> None:
    clients = Clients(ClientLimits(2, 0.3, 30))
    api = HttpApi(golden_service(), lambda now_ms: {"fresh": True}, lambda now_ms: b"")
    async with swept(clients, http_protocol(api, clients, 1000), LOCAL) as server:
        slow, quick = await connect(server), await connect(server)
        await wait_until_closed(await connect(server))
        assert clients.refused == 1
        slow[1].write(b"GET /health HTTP/1.1\r\n")
        for number in range(12):
            quick[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.wait_for(quick[0].readuntil(b"}\n"), 5)).startswith(b"HTTP/1.1 200 OK\r\n")
            if not clients.cut_off:
                slow[1].write(b"X-%d: y\r\n" % number)
            await asyncio.sleep(0.1)
        await wait_until_closed(slow)
        assert clients.cut_off == 1


async def test_idle_client_is_disconnected() -> None:
    async with served(ClientLimits(100, 30, 0.1), LOCAL) as (clients, server):
        client = await connect(server)
        assert await ask(client) == DUNNO
        await wait_until_closed(client)
        assert (clients.cut_off, len(clients.connected)) == (0, 0)


async def test_client_that_does_not_read_replies_is_cut_off() -> None:
    async with served(ClientLimits(100, 0.3, 30), LOCAL) as (clients, server):
        with socket.create_connection(("127.0.0.1", port_of(server))) as unresponsive:
            unresponsive.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unresponsive.setblocking(False)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                await asyncio.wait_for(loop.sock_sendall(unresponsive, REQUEST * 500_000), 20)
        assert clients.cut_off == 1


async def test_client_beyond_the_limit_is_refused() -> None:
    async with served(ClientLimits(3, 30, 30), LOCAL) as (clients, server):
        connected = [await connect(server) for _ in range(3)]
        assert [await ask(client) for client in connected] == [DUNNO] * 3
        await wait_until_closed(await connect(server))
        assert clients.refused == 1
        connected[0][1].close()
        await asyncio.sleep(0.1)
        assert len(clients.connected) == 2
        assert await ask(await connect(server)) == DUNNO


async def test_malformed_request_closes_without_a_reply() -> None:
    async with served(PATIENT, LOCAL) as (clients, server):
        client = await connect(server)
        client[1].write(b"GET / HTTP/1.1\r\n\n\n")
        await wait_until_closed(client)
        assert len(clients.connected) == 0


async def test_unix_socket_is_shared_and_a_leftover_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    for _ in range(2):
        (address,) = bind_addresses({"policy": f"unix:{path}"}, 2)["policy"]
        assert address.opened
        async with served(PATIENT, address._replace(opened=address.opened.dup())), served(PATIENT, address):
            assert await ask(await asyncio.open_unix_connection(path)) == DUNNO
            assert path.stat().st_mode & 0o777 == 0o666


async def test_servers_share_a_tcp_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = ListenAddress("127.0.0.1", free.getsockname()[1])
    async with served(PATIENT, address), served(PATIENT, address) as (_, server):
        assert await ask(await connect(server)) == DUNNO


def test_listen_addresses_are_parsed() -> None:
    assert parse_listen_addresses("127.0.0.1:1, [::1]:2,unix:/run/x") == [
        ListenAddress("127.0.0.1", 1),
        ListenAddress("::1", 2),
        ListenAddress(path="/run/x"),
    ]
    assert parse_listen_addresses("") == []


def test_port_0_needs_a_single_process() -> None:
    assert bind_addresses({"policy": "127.0.0.1:0", "http": ""}, 1) == {
        "policy": [ListenAddress("127.0.0.1", 0)],
        "http": [],
    }
    with pytest.raises(OperatorError, match=r"edge\.policy: several processes can't share port 0"):
        bind_addresses({"policy": "127.0.0.1:0"}, 2)


def test_two_protocols_on_one_port_are_refused() -> None:
    with pytest.raises(OperatorError, match=r"edge\.policy and edge\.http both listen on 127\.0\.0\.1:10040: choose"):
        bind_addresses({"policy": "127.0.0.1:10041, 127.0.0.1:10040", "http": "127.0.0.1:10040"}, 1)


def test_without_systemd_no_socket_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert systemd_sockets() == {}
    notify_ready()


def test_readiness_is_reported_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        notify_ready()

        assert systemd.recv(100) == b"READY=1"
