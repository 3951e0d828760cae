"""Workers find each other's pages and ask there: bounded, marked, with nothing of the asker's but the sender."""

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
def test_what_a_worker_announces_is_what_the_others_read(host: str, process: str, mark: str) -> None:
    for page in (PAGE, f"{PAGE}/tidegate", "http://[2001:db8::1]:8080", ""):
        peer = Peer(f"{host} {process}", mark, page, (1, 3))
        address = str(URL(peer.address))
        assert str(URL(address)) == address
        assert list(parse_peers({address: {"connections": [3, 1]}}, "connections")) == [peer]
        assert peer.host == host


def test_who_announces_nothing_of_ours_has_no_page_that_is_known() -> None:
    (found,) = parse_peers({"http://mx1.test:6066": {"connections": [0], "others": [7]}}, "connections")
    assert found == Peer("mx1.test", "", "", (0,))


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
def test_a_page_is_where_others_reach_it(advertised: str, listening: list[tuple[str, int]], page: str) -> None:
    assert page_address(advertised, listening, "mx1.test") == page


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ([3], "partition 3"),
        ([1, 0], "partitions 0 to 1"),
        ([0, 1, 2, 5, 7, 8], "partitions 0 to 2, 5 and 7 to 8"),
    ],
)
def test_partitions_are_told_in_words(partitions: list[int], words: str) -> None:
    assert partitions_text(partitions) == words


@pytest.mark.parametrize(
    "wrong", ["mx1:10090", f"http://{NAMED}@mx1.example", "http://mx1.example/#1", "ftp://mx1.example"]
)
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(OperatorError, match=r"worker\.http_advertised"):
        load_settings(None, {}, {"worker.http_advertised": wrong})


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def worker(answer: Answer) -> AsyncIterator[str]:
    """A worker's page that gives this answer to everything; its address."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fleet(*others: Peer, own: tuple[int, ...] = ()) -> AsyncIterator[PeerClient]:
    """The fleet as a worker with the partitions ``own`` sees it."""
    settings = load_settings(None, {}, {"topics.partitions": 4, "worker.http_token": "sesame-sesame-sesame"})
    distribution: dict[str, dict[str, list[int]]] = {
        one.address: {"connections": list(one.partitions)} for one in others
    }
    made = PeerClient(settings, lambda: distribution)
    distribution[made.announce([("127.0.0.1", 1)])] = {"connections": list(own)}
    try:
        yield made
    finally:
        await made.stop()


async def asked(page: str, within_s: float = 5.0, name: str = HERE) -> bytes:
    """What the owner of partition 1 answers, whose page is there."""
    async with fleet(Peer(name, "b", page, (1,)), own=(0,)) as made:
        return await made.ask(1, "/v1/senders/192.0.2.1", within_s)


async def test_an_owner_is_asked_with_a_mark_and_nothing_else() -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.headers)))
        response = web.json_response({"throttled": False})
        response.set_cookie("remember", "me")
        return response

    async with worker(answer) as page:
        assert orjson.loads(await asked(page)) == {"throttled": False}
    ((path, headers),) = seen
    assert path == "/v1/senders/192.0.2.1"
    assert headers.keys() - {"Host", "Accept", "Accept-Encoding", "User-Agent"} == {FORWARDED}


async def test_an_owners_complaint_is_handed_on() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"error": "it has sent nothing"}, status=400)

    async with worker(answer) as page:
        with pytest.raises(OperatorError, match=r"^it has sent nothing$"):
            await asked(page)


class Silent:
    """A worker that answers when ``over`` is set."""

    def __init__(self) -> None:
        self.asked, self.over = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.over.wait()
        return web.json_response(PART)


async def test_an_owner_that_is_silent_costs_a_bounded_time() -> None:
    silent = Silent()
    async with worker(silent.answer) as page:
        said = f"partition 1, which worker .* has; its page at {page} hasn't answered within 0.2 s"
        with pytest.raises(PeerUnavailable, match=said):
            await asked(page, within_s=0.2)
        silent.over.set()


@pytest.mark.parametrize(("status", "said"), [(302, "status 302"), (401, "status 401"), (503, "status 503")])
async def test_what_is_no_answer_is_told_as_such(status: int, said: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path != "/elsewhere"
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with worker(answer) as page:
        with pytest.raises(PeerUnavailable, match=f"answered with {said}: is that its worker.http_advertised"):
            await asked(page)


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client_module, "MOST_OCTETS", 1_000)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 2_000)

    async with worker(answer) as page:
        with pytest.raises(PeerUnavailable, match="more than 1,000 octets"):
            await asked(page)


async def test_who_can_not_be_asked_is_named_with_what_to_do() -> None:
    with pytest.raises(PeerUnavailable, match=r"it has no page: give it a worker\.http"):
        await asked("")
    with pytest.raises(
        PeerUnavailable, match=r"mx9 2 has; its page at http://127.0.0.1:9 is for its own machine: look there"
    ):
        await asked("http://127.0.0.1:9", name="mx9 2")
    with pytest.raises(PeerUnavailable, match="can't be reached from here"):
        await asked("http://127.0.0.1:9")
    async with fleet(own=(0,)) as made:
        with pytest.raises(PeerUnavailable, match="partition 1, which no worker has now"):
            await made.ask(1, "/", 1.0)


PART: dict[str, Any] = {"status": {"partitions": {}}, "complaints": [], "pulse": [], "movers": []}


async def test_an_overview_has_the_parts_that_came_and_names_the_others() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"worker": "whoever", **PART})

    async def broken(request: web.Request) -> web.Response:
        return web.json_response([])

    async with worker(answer) as one, worker(broken) as two:
        peers = [Peer(HERE, mark, page, (number,)) for mark, page, number in (("b", one, 1), ("c", two, 2))]
        async with fleet(*peers, own=(0,)) as made:
            async with asyncio.timeout(30):
                while "hasn't answered" in str(found := await made.parts()):  # noqa: ASYNC110 (it is asked, as a page does)
                    await asyncio.sleep(0.01)
            assert found.others == [{"worker": HERE, **PART}]
            (missing,) = found.missing
            assert missing.startswith(
                f"not shown: partition 2 of worker {HERE}: what answers at {two} is no worker of this"
            )
            assert made.unowned() == [3]


async def test_a_silent_worker_does_not_hold_up_an_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client_module, "PATIENCE_S", 0.05)
    silent = Silent()
    async with worker(silent.answer) as page, fleet(Peer(HERE, "b", page, (1,))) as made:
        found = await made.parts()
        assert found.others == []
        assert found.missing[0].endswith("it hasn't answered yet")
        await silent.asked.wait()
        silent.over.set()
        async with asyncio.timeout(30):
            while not (await made.parts()).others:  # noqa: ASYNC110 (it is asked, as a page does)
                await asyncio.sleep(0.01)
