"""Limits of the servers: slow, idle, deaf and too many clients are got rid of, and the others don't notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.edge.protocols.http import Pages
from engine.edge.protocols.policy import DUNNO, PolicySession
from engine.edge.servers import Clients, Limits, Place, Wire, activated, listen, notify_ready, opened, places
from engine.edge.web import web_protocol
from tests.support.transcripts import golden_desk
from topics.errors import OperatorError

REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=203.0.113.9\nclient_port=25\ninstance=1\n\n"
)


@asynccontextmanager
async def served(limits: Limits, place: Place) -> AsyncIterator[tuple[Clients, asyncio.Server]]:
    clients, desk = Clients(limits), golden_desk()
    async with swept(clients, lambda: Wire(PolicySession(desk), clients), place) as server:
        yield clients, server


@asynccontextmanager
async def swept(
    clients: Clients, protocol: Callable[[], asyncio.Protocol], place: Place
) -> AsyncIterator[asyncio.Server]:
    server = await listen(place, protocol)

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


async def asked(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    client[1].write(REQUEST)
    return await asyncio.wait_for(client[0].readuntil(b"\n\n"), 5)


async def until_cut_off(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(client[0].read(), 5) == b""


LOCAL = Place("127.0.0.1")
PATIENT = Limits(100, 30, 30)


async def test_a_client_that_trickles_is_cut_off_and_the_others_are_served() -> None:
    async with served(Limits(100, 0.2, 30), LOCAL) as (clients, server):
        slow, quick = await connect(server), await connect(server)
        for octet in REQUEST[:4]:
            slow[1].write(bytes([octet]))
            assert await asked(quick) == DUNNO
            await asyncio.sleep(0.1)
        await until_cut_off(slow)
        assert clients.cut_off == 1
        assert await asked(quick) == DUNNO


async def test_an_http_client_that_trickles_its_headers_is_cut_off_and_the_others_are_served() -> None:
    desk, clients = golden_desk(), Clients(Limits(2, 0.3, 30))
    pages = Pages(desk, lambda now_ms: {"fresh": True}, lambda now_ms: b"")
    async with swept(clients, web_protocol(pages, clients, 1000), LOCAL) as server:
        slow, quick = await connect(server), await connect(server)
        await until_cut_off(await connect(server))
        assert clients.refused == 1
        slow[1].write(b"GET /health HTTP/1.1\r\n")
        for number in range(12):
            quick[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.wait_for(quick[0].readuntil(b"}\n"), 5)).startswith(b"HTTP/1.1 200 OK\r\n")
            if not clients.cut_off:
                slow[1].write(b"X-%d: y\r\n" % number)
            await asyncio.sleep(0.1)
        await until_cut_off(slow)
        assert clients.cut_off == 1


async def test_an_idle_client_is_disconnected() -> None:
    async with served(Limits(100, 30, 0.1), LOCAL) as (clients, server):
        client = await connect(server)
        assert await asked(client) == DUNNO
        await until_cut_off(client)
        assert (clients.cut_off, len(clients.wires)) == (0, 0)


async def test_a_client_that_does_not_take_its_answers_is_cut_off() -> None:
    async with served(Limits(100, 0.3, 30), LOCAL) as (clients, server):
        with socket.create_connection(("127.0.0.1", port_of(server))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                await asyncio.wait_for(loop.sock_sendall(deaf, REQUEST * 500_000), 20)
        assert clients.cut_off == 1


async def test_clients_beyond_the_limit_are_turned_away() -> None:
    async with served(Limits(3, 30, 30), LOCAL) as (clients, server):
        there = [await connect(server) for _ in range(3)]
        assert [await asked(client) for client in there] == [DUNNO] * 3
        await until_cut_off(await connect(server))
        assert clients.refused == 1
        there[0][1].close()
        await asyncio.sleep(0.1)
        assert len(clients.wires) == 2
        assert await asked(await connect(server)) == DUNNO


async def test_what_is_malformed_ends_without_an_answer() -> None:
    async with served(PATIENT, LOCAL) as (clients, server):
        client = await connect(server)
        client[1].write(b"GET / HTTP/1.1\r\n\n\n")
        await until_cut_off(client)
        assert len(clients.wires) == 0


async def test_a_unix_socket_is_served_by_several_and_one_left_behind_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    for _ in range(2):
        (place,) = opened({"policy": f"unix:{path}"}, 2)["policy"]
        assert place.opened
        async with served(PATIENT, place._replace(opened=place.opened.dup())), served(PATIENT, place):
            assert await asked(await asyncio.open_unix_connection(path)) == DUNNO
            assert path.stat().st_mode & 0o777 == 0o666


async def test_processes_share_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = Place("127.0.0.1", free.getsockname()[1])
    async with served(PATIENT, place), served(PATIENT, place) as (_, server):
        assert await asked(await connect(server)) == DUNNO


def test_places_are_read_as_the_options_say_them() -> None:
    assert list(places("127.0.0.1:1, [::1]:2,unix:/run/x")) == [
        Place("127.0.0.1", 1),
        Place("::1", 2),
        Place(path="/run/x"),
    ]
    assert list(places("")) == []


def test_port_0_is_for_one_process() -> None:
    assert opened({"policy": "127.0.0.1:0", "http": ""}, 1) == {"policy": [Place("127.0.0.1", 0)], "http": []}
    with pytest.raises(OperatorError, match=r"edge\.policy: several processes can't share port 0"):
        opened({"policy": "127.0.0.1:0"}, 2)


def test_two_protocols_at_one_place_are_refused() -> None:
    with pytest.raises(OperatorError, match=r"edge\.policy and edge\.http are both at 127\.0\.0\.1:10040: give each"):
        opened({"policy": "127.0.0.1:10041, 127.0.0.1:10040", "http": "127.0.0.1:10040"}, 1)


def test_without_systemd_nothing_is_inherited_and_nobody_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert activated() == {}
    notify_ready()


def test_systemd_hears_that_we_are_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_ready()
        assert systemd.recv(100) == b"READY=1"
