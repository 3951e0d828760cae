"""Workers find each other's pages and query them: bounded, marked, with nothing of the reader's request but the sender."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engine.config.load import load_settings
from engine.web import peer_client as peer_client_module
from engine.web.peer_client import FORWARDED, PeerClient, PeerUnavailable
from engine.web.peers import Peer, page_address, parse_peers, partitions_text
from topics.errors import OperatorError

ADDRESS, NAMED = "192.0.2.1", "name:word"
PAGE = "http://worker1.example:10090"
HERE = f"{socket.gethostname()} 2"  # the name of another worker on the same machine


@given(st.text("abc-.0", min_size=1), st.text("0123456789-_a", min_size=1), st.text("0123456789abcdef"))
def test_announced_address_parses_to_the_same_peer(host: str, process: str, mark: str) -> None:
    for page in (PAGE, f"{PAGE}/tidegate", "http://[2001:db8::1]:8080", ""):
        peer = Peer(f"{host} {process}", mark, page, (1, 3))
        address = str(URL(peer.address))
        assert str(URL(address)) == address
        assert list(parse_peers({address: {"connections": [3, 1]}}, "connections")) == [peer]
        assert peer.host == host


def test_peer_with_foreign_address_has_no_page() -> None:
    (peer,) = parse_peers({"http://mx1.test:6066": {"connections": [0], "others": [7]}}, "connections")
    assert peer == Peer("mx1.test", "", "", (0,))


@pytest.mark.parametrize(
    ("advertised", "listening", "page"),
    [
        ("", [], ""),
        (PAGE, [], ""),
        (f"{PAGE}/", [("127.0.0.1", 10090)], PAGE),
        ("", [("127.0.0.1", 10090)], "http://127.0.0.1:10090"),
        ("", [("127.0.0.1", 10090), (ADDRESS, 10091)], f"http://{ADDRESS}:10091"),
        ("", [("0.0.0.0", 10090)], "http://mx1.test:10090"),
        ("", [("::1", 1), ("::", 2)], "http://mx1.test:2"),
        ("", [("0.0.0.0", 1), ("2001:db8::1", 2)], "http://[2001:db8::1]:2"),
    ],
)
def test_page_address_is_the_one_that_others_reach(
    advertised: str, listening: list[tuple[str, int]], page: str
) -> None:
    assert page_address(advertised, listening, "mx1.test") == page


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ([3], "partition 3"),
        ([1, 0], "partitions 0 to 1"),
        ([0, 1, 2, 5, 7, 8], "partitions 0 to 2, 5 and 7 to 8"),
    ],
)
def test_partitions_are_named_in_words(partitions: list[int], words: str) -> None:
    assert partitions_text(partitions) == words


@pytest.mark.parametrize(
    "wrong", ["mx1:10090", f"http://{NAMED}@mx1.example", "http://mx1.example/#1", "ftp://mx1.example"]
)
def test_invalid_advertised_address_is_refused(wrong: str) -> None:
    with pytest.raises(OperatorError, match=r"worker\.http_advertised"):
        load_settings(None, {}, {"worker.http_advertised": wrong})


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def worker(respond: Respond) -> AsyncIterator[str]:
    """Serve a page that responds to every path, and give its address."""
    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def peer_client(*others: Peer, own: tuple[int, ...] = ()) -> AsyncIterator[PeerClient]:
    """Give the client of a worker with the partitions ``own``."""
    settings = load_settings(None, {}, {"topics.partitions": 4, "worker.http_token": "sesame-sesame-sesame"})
    distribution: dict[str, dict[str, list[int]]] = {
        peer.address: {"connections": list(peer.partitions)} for peer in others
    }
    client = PeerClient(settings, lambda: distribution)
    distribution[client.announce([("127.0.0.1", 1)])] = {"connections": list(own)}
    try:
        yield client
    finally:
        await client.stop()


async def get_sender(page: str, timeout_s: float = 5.0, name: str = HERE) -> bytes:
    """Return the reply of partition 1's owner, which has this page."""
    async with peer_client(Peer(name, "b", page, (1,)), own=(0,)) as client:
        return await client.get(1, "/v1/senders/192.0.2.1", timeout_s)


async def test_request_to_an_owner_has_the_forwarded_header_and_nothing_else() -> None:
    requests: list[tuple[str, dict[str, str]]] = []

    async def respond(request: web.Request) -> web.Response:
        requests.append((request.path, dict(request.headers)))
        response = web.json_response({"throttled": False})
        response.set_cookie("remember", "me")
        return response

    async with worker(respond) as page:
        assert orjson.loads(await get_sender(page)) == {"throttled": False}
    ((path, headers),) = requests
    assert path == "/v1/senders/192.0.2.1"
    assert headers.keys() - {"Host", "Accept", "Accept-Encoding", "User-Agent"} == {FORWARDED}


async def test_error_of_an_owner_is_passed_on() -> None:
    async def respond(request: web.Request) -> web.Response:
        return web.json_response({"error": "it has sent nothing"}, status=400)

    async with worker(respond) as page:
        with pytest.raises(OperatorError, match=r"^it has sent nothing$"):
            await get_sender(page)


class Blocked:
    """A worker that responds once it is unblocked."""

    def __init__(self) -> None:
        self.requested, self.unblocked = asyncio.Event(), asyncio.Event()

    async def respond(self, request: web.Request) -> web.Response:
        self.requested.set()
        await self.unblocked.wait()
        return web.json_response(PART)


async def test_request_to_a_blocked_owner_times_out() -> None:
    blocked = Blocked()
    async with worker(blocked.respond) as page:
        message = f"partition 1, which worker .* owns; its page at {page} didn't reply within 0.2 s"

        with pytest.raises(PeerUnavailable, match=message):
            await get_sender(page, timeout_s=0.2)

        blocked.unblocked.set()


@pytest.mark.parametrize("status", [302, 401, 503])
async def test_reply_with_another_status_is_an_error(status: int) -> None:
    async def respond(request: web.Request) -> web.Response:
        assert request.path != "/elsewhere"
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with worker(respond) as page:
        with pytest.raises(PeerUnavailable, match=f"replied with status {status}: is that its worker.http_advertised"):
            await get_sender(page)


async def test_reply_above_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client_module, "MAX_BYTES", 1_000)

    async def respond(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 2_000)

    async with worker(respond) as page:
        with pytest.raises(PeerUnavailable, match="more than 1,000 bytes"):
            await get_sender(page)


async def test_unreachable_owner_is_named_with_a_remedy() -> None:
    with pytest.raises(PeerUnavailable, match=r"it has no page: set its worker\.http"):
        await get_sender("")
    with pytest.raises(
        PeerUnavailable,
        match=r"mx9 2 owns; its page at http://127.0.0.1:9 is reachable from its own machine only: open it there",
    ):
        await get_sender("http://127.0.0.1:9", name="mx9 2")
    with pytest.raises(PeerUnavailable, match="can't be reached from here"):
        await get_sender("http://127.0.0.1:9")
    async with peer_client(own=(0,)) as client:
        with pytest.raises(PeerUnavailable, match="partition 1, which no worker owns now"):
            await client.get(1, "/", 1.0)


PART: dict[str, Any] = {"status": {"partitions": {}}, "problems": [], "rates": [], "top_senders": []}


async def test_overview_has_the_parts_that_arrived_and_names_the_others() -> None:
    async def respond(request: web.Request) -> web.Response:
        return web.json_response({"worker": "another", **PART})

    async def broken(request: web.Request) -> web.Response:
        return web.json_response([])

    async with worker(respond) as one, worker(broken) as two:
        peers = [Peer(HERE, mark, page, (number,)) for mark, page, number in (("b", one, 1), ("c", two, 2))]
        async with peer_client(*peers, own=(0,)) as client:
            async with asyncio.timeout(30):
                while "no reply yet" in str(parts := await client.parts()):  # noqa: ASYNC110 (polled, as a page does)
                    await asyncio.sleep(0.01)
            assert parts.others == [{"worker": HERE, **PART}]
            (missing,) = parts.missing
            assert missing.startswith(
                f"not shown: partition 2 of worker {HERE}: the server at {two} is no worker of this"
            )
            assert client.unowned() == [3]


async def test_blocked_worker_does_not_delay_an_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client_module, "OVERVIEW_WAIT_S", 0.05)
    blocked = Blocked()
    async with worker(blocked.respond) as page, peer_client(Peer(HERE, "b", page, (1,))) as client:
        parts = await client.parts()
        assert parts.others == []
        assert parts.missing[0].endswith("no reply yet")

        await blocked.requested.wait()
        blocked.unblocked.set()
        async with asyncio.timeout(30):
            while not (await client.parts()).others:  # noqa: ASYNC110 (polled, as a page does)
                await asyncio.sleep(0.01)
