"""Notifications: each thing once when it begins and once when it is over, signed, tried again, and never in anybody's way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from engine.alerts import notifier as notifier_module
from engine.alerts.alert_log import Memory, decode, encode
from engine.alerts.alert_state import BEGUN, LASTS, MOST, OVER, Ledger, Told
from engine.alerts.channels import Mail, Message, Refused, Relay, Undelivered, Webhook
from engine.alerts.conditions import Condition, Limits, Sight, conditions
from engine.alerts.notifier import Notifier, Outbox, message_of
from engine.config.load import load_settings
from engine.config.validators import CONDITIONS
from engine.web.decision_log import Board
from tests.engine.web.test_page import A, B, C, decision, said
from tests.support.sequences import DAY_MS, START_MS
from topics.decisions import RELEASE
from topics.errors import OperatorError

LIMITS = Limits(60.0, 0.8)


def status(**changes: Any) -> dict[str, Any]:
    established = {"messages": 50_000.0, "share": 0.001, "budget": 0.005}
    partition = {"guard_tripped_ms": None, "lag": 0, "lag_s": 0.0, "established": established, **changes}
    return {"partitions": {"0": partition}}


def found(of: dict[str, Any], **more: Any) -> list[Condition]:
    return list(conditions(of, more.get("silent", {}), more.get("watched", {}), LIMITS))


def test_nothing_is_said_of_a_worker_that_is_well() -> None:
    assert found(status()) == []


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"lag": 900, "lag_s": 61.0}, "lag 0", "61 s and 900 events behind"),
        (
            {"established": {"messages": 5e4, "share": 0.004, "budget": 0.005}},
            "budget 0",
            "0.40% .* 80% of the budget of",
        ),
        ({"guard_tripped_ms": START_MS}, "breaker 0", "the breaker has tripped"),
    ],
)
def test_what_a_partition_suffers_is_told(change: dict[str, Any], name: str, words: str) -> None:
    (condition,) = found(status(**change))
    assert condition.name == name
    assert condition.kind == name.split(" ", maxsplit=1)[0]
    assert re.search(words, condition.said)


def test_a_share_of_next_to_nothing_says_nothing() -> None:
    assert found(status(established={"messages": 900.0, "share": 0.5, "budget": 0.005})) == []


def test_of_edges_and_watched_networks_the_owner_of_partition_0_speaks() -> None:
    more: dict[str, Any] = {"silent": {"mx1": 30.0}, "watched": {A: "192.0.2.1/32: too much"}}
    assert [one.name for one in found(status(), **more)] == ["edge mx1", f"watch {A}"]
    assert found({"partitions": {"1": status()["partitions"]["0"]}}, **more) == []


def test_every_kind_can_be_found() -> None:
    everything = status(
        guard_tripped_ms=1, lag=1, lag_s=99.0, established={"messages": 5e4, "share": 1.0, "budget": 0.1}
    )
    assert {one.kind for one in found(everything, silent={"e": 9.0}, watched={A: "x"})} == CONDITIONS


def test_watched_throttles_are_those_that_touch_a_watched_network() -> None:
    board = Board("", {}, ["192.0.2.0/31", "2001:db8::/32"])
    board.take([said(decision(A, 1)), said(decision(B, 2)), said(decision(C, 3)), said(decision("192.0.2.0/24", 4))])
    assert set(board.watched(START_MS)) == {A, C, "192.0.2.0/24"}
    board.take([said(decision(A, 5, RELEASE))])
    assert set(board.watched(START_MS)) == {C, "192.0.2.0/24"}
    assert board.watched(START_MS + DAY_MS) == {}


ONE = Condition("lag 0", "lag", "behind", "caught up")


def everything(kind: str, name: str) -> bool:
    return True


def nothing(kind: str, name: str) -> bool:
    return False


def told(ledger: Ledger, held: dict[int, bool], known: dict[str, Told] | None = None) -> list[tuple[int, str]]:
    """When what was told of `ONE`; ``known``: what had been told before, and afterwards."""
    known, spoken = {} if known is None else known, []
    for at, holds in held.items():
        for notice in ledger.turn([ONE] if holds else [], known, everything, at):
            spoken.append((at, notice.state))
            if notice.told is None:
                del known[ONE.name]
            else:
                known[ONE.name] = notice.told
    return spoken


def test_a_condition_is_told_once_it_has_lasted_again_and_once_it_is_over() -> None:
    held = {at: at <= 300 for at in range(0, 400, 10)}
    assert told(Ledger(50, 100), held) == [(50, BEGUN), (150, LASTS), (250, LASTS), (350, OVER)]


def test_what_comes_and_goes_makes_no_noise() -> None:
    assert told(Ledger(50, 10_000), {at: at % 20 < 10 and at < 40 for at in range(0, 400, 10)}) == []
    assert told(Ledger(50, 10_000), {at: at % 30 != 0 or at < 90 for at in range(0, 900, 10)}) == [(50, BEGUN)]


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 100), st.integers(1, 300))
def test_begun_and_over_alternate_and_repetitions_keep_their_distance(held: list[bool], hold: int, repeat: int) -> None:
    notices = told(Ledger(hold, repeat), {10 * i: holds for i, holds in enumerate(held)})
    states = [state for _, state in notices if state != LASTS]
    assert states == [BEGUN, OVER] * (len(states) // 2) + [BEGUN] * (len(states) % 2)
    spoken = [at for at, state in notices if state != OVER]
    begun = {at for at, state in notices if state == BEGUN}
    assert all(later - earlier >= repeat for earlier, later in pairwise(spoken) if later not in begun)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sets(st.integers(0, 199)), st.integers(1, 300))
def test_restarts_repeat_nothing_and_leave_nothing_out(held: list[bool], restarts: set[int], repeat: int) -> None:
    steady, known, spoken = Ledger(0, repeat), dict[str, Told](), list[tuple[int, str]]()
    ledger = Ledger(0, repeat)
    for i, holds in enumerate(held):
        ledger = Ledger(0, repeat) if i in restarts else ledger
        spoken += told(ledger, {10 * i: holds}, known)
    assert spoken == told(steady, {10 * i: holds for i, holds in enumerate(held)})


def test_after_a_restart_it_is_over_once_it_has_been_looked_for_in_vain_for_as_long_as_ever() -> None:
    known = {ONE.name: Told(ONE.kind, ONE.over, 5, 60)}
    assert told(Ledger(50, 10_000), dict.fromkeys(range(1000, 1100, 10), False), known) == [(1050, OVER)]
    assert known == {}


def test_what_a_worker_can_not_see_is_not_over() -> None:
    known = {ONE.name: Told(ONE.kind, ONE.over, 5, 60)}
    ledger = Ledger(0, 10_000)
    assert [ledger.turn([], known, nothing, at) for at in (100, 200)] == [[], []]
    (over,) = ledger.turn([], known, everything, 300)
    assert (over.state, over.condition.over, over.since_ms, over.told) == (OVER, "caught up", 5, None)


def test_a_full_ledger_waits_until_others_are_over() -> None:
    known = {f"edge {number}": Told("edge", "", 0, 0) for number in range(MOST)}
    assert Ledger(0, 10_000).turn([ONE], known, nothing, 1) == []
    del known["edge 0"]
    assert [notice.state for notice in Ledger(0, 10_000).turn([ONE], known, nothing, 1)] == [BEGUN]


def test_a_worker_speaks_of_what_it_has_and_of_the_site_if_it_has_partition_0() -> None:
    first, other = Sight(["0", "2"], ["mx1"], lambda network: network == A), Sight(["1"], ["mx1"], lambda _: True)
    names = [
        ("lag", "lag 2"),
        ("breaker", "breaker 1"),
        ("edge", "edge mx1"),
        ("edge", "edge mx2"),
        ("watch", f"watch {A}"),
    ]
    assert [first.covers(*one) for one in names] == [True, False, True, False, True]
    assert [other.covers(*one) for one in names] == [False, True, False, False, False]


def noted(name: str, value: bytes | None, offset: int = 0) -> Any:
    return ConsumerRecord("notices", 0, offset, START_MS, 0, name.encode(), value, None, 0, 0, ())


def test_the_memory_is_what_the_topic_says_unless_something_newer_is_on_its_way() -> None:
    memory, one, two = Memory("notices", {}), Told("lag", "caught up", 1, 2), Told("lag", "caught up", 1, 9)
    assert decode(encode("lag 0", one)) == one
    memory.take(noted("lag 0", encode("lag 0", one)))
    memory.take(noted("lag 1", b"{"))
    assert memory.told == {"lag 0": one}
    memory.note("lag 0", two)
    memory.take(noted("lag 0", None))
    assert memory.told == {"lag 0": two}
    memory.note("lag 0", None)
    memory.take(noted("lag 0", encode("lag 0", two)))
    assert memory.told == {}


class Receiver:
    """A webhook's other side: gives each request the next of ``answers``, 200 when they are used up."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.some = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        self.some.set()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.got) < count:
                self.some.clear()
                await self.some.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    taking, app = Receiver(), web.Application()
    app.router.add_post("/hook", taking.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield taking, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


MESSAGE = Message("[tidegate] lag 0", "behind", {"id": "0123", "condition": "lag"})


async def test_a_webhook_is_signed_so_that_the_receiver_can_tell(receiver: tuple[Receiver, str]) -> None:
    taking, url = receiver
    await Webhook(url, "s3cret").send(MESSAGE)
    ((headers, body),) = taking.got
    stamp = headers["X-Tidegate-Timestamp"]
    expected = hmac.new(b"s3cret", f"{stamp}.{body.decode()}".encode(), hashlib.sha256).hexdigest()
    assert headers["X-Tidegate-Signature"] == f"sha256={expected}"
    assert orjson.loads(body) == {"id": "0123", "condition": "lag", "text": "behind", "v": 1}
    await Webhook(url, "").send(MESSAGE)
    assert "X-Tidegate-Signature" not in taking.got[1][0]


async def test_what_fails_is_tried_again_with_the_same_id(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "FIRST_S", 0.01)
    taking, url = receiver
    taking.answers = [500, 429, 200, 404]
    outcomes: Counter[tuple[str, str]] = Counter()
    outbox = Outbox(Webhook(url, ""), outcomes)
    running = asyncio.create_task(outbox.run())
    for name in ("first", "second"):
        outbox.put(Message(name, name, {"id": name}))
    await taking.wait(4)
    async with asyncio.timeout(30):
        while outcomes.total() < 2:  # noqa: ASYNC110 (nobody tells when it has counted)
            await asyncio.sleep(0.01)
    running.cancel()
    assert [orjson.loads(body)["id"] for _, body in taking.got] == ["first", "first", "first", "second"]
    assert outcomes == {("webhook", "delivered"): 1, ("webhook", "refused"): 1}


async def test_nobody_there_is_no_failure_of_ours(receiver: tuple[Receiver, str]) -> None:
    with pytest.raises(Undelivered):
        await Webhook("http://127.0.0.1:9/", "").send(MESSAGE)


async def test_a_full_outbox_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "MOST_WAITING", 2)
    outcomes: Counter[tuple[str, str]] = Counter()
    outbox = Outbox(Webhook("http://127.0.0.1:9/", ""), outcomes)
    sent = [outbox.put(Message(name, name, {"id": name})) for name in "abc"]
    assert [message.text for _, message, _ in outbox._waiting] == ["b", "c"]
    assert [done.done() for done in sent] == [True, False, False]
    assert outcomes == {("webhook", "dropped"): 1}


class Relayed:
    """Enough of an SMTP server: takes mail, or gives RCPT the ``answer``."""

    def __init__(self, answer: str = "250 ok") -> None:
        self.answer, self.mails = answer, list[str]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def reply(text: str) -> None:
            writer.write(f"{text}\r\n".encode())

        reply("220 relay.example")
        while line := (await reader.readline()).decode().strip():
            verb = line[:4].upper()
            if verb == "DATA":
                reply("354 go on")
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            reply(self.answer if verb == "RCPT" else "221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                break
        writer.close()


@pytest.fixture(params=["250 ok", "550 no such user", "451 later"])
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Relayed, Relay]]:
    relayed = Relayed(request.param)
    async with await asyncio.start_server(relayed.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield relayed, Relay(f"127.0.0.1:{port}", "none", "", "")


async def test_mail_is_handed_in_or_the_relays_word_is_taken(relay: tuple[Relayed, Relay]) -> None:
    relayed, to = relay
    mail = Mail(to, "tidegate@mx.example", ["ops@example.org"])
    if relayed.answer.startswith("2"):
        await mail.send(MESSAGE)
        (text,) = relayed.mails
        assert "Subject: [tidegate] lag 0\r\n" in text
        assert "Message-ID: <0123@mx.example>\r\n" in text
        assert "Auto-Submitted: auto-generated\r\n" in text
        assert "\r\nbehind\r\n" in text
        return
    with pytest.raises(Refused if relayed.answer.startswith("5") else Undelivered):
        await mail.send(MESSAGE)


async def test_the_notifier_tells_of_what_is_wanted_and_deduplicates(receiver: tuple[Receiver, str]) -> None:
    taking, url = receiver
    other = Condition("edge mx1", "edge", "silent", "heard")
    held: list[list[Condition]] = [[ONE, other], [ONE, other], [other], [], []]
    looks: Iterator[list[Condition]] = iter(held)
    options = load_settings(None, {}, {"notify.webhook": url, "notify.on": "lag", "notify.hold_s": 0}).notify
    memory = Keeping()
    telling = Notifier(options, "mx 7", memory, lambda: (next(looks), everything))
    running = asyncio.create_task(telling._outboxes[0].run())
    for second in range(len(held)):
        telling.turn(START_MS + 1000 * second)
    assert (memory.told, memory.kept) == ({}, [])  # nothing is kept that nobody has got
    await taking.wait(2)
    async with asyncio.timeout(30):
        while len(memory.kept) < 2:  # noqa: ASYNC110 (nobody tells when it was kept)
            await asyncio.sleep(0.01)
    running.cancel()
    assert memory.kept == [(ONE.name, Told("lag", "caught up", START_MS, START_MS)), (ONE.name, None)]
    states = [
        (orjson.loads(body)["name"], orjson.loads(body)["state"], orjson.loads(body)["text"]) for _, body in taking.got
    ]
    assert states == [("lag 0", BEGUN, "behind"), ("lag 0", OVER, "caught up")]


class Keeping(Memory):
    """A memory whose topic is a list."""

    def __init__(self) -> None:
        super().__init__("notices", {})
        self.kept: list[tuple[str, Told | None]] = []

    def keep(self, name: str, told: Told | None) -> None:
        self.kept.append((name, told))


def test_an_id_names_condition_beginning_and_state_whoever_tells_it() -> None:
    (begun,) = Ledger(0, 10_000).turn([ONE], {}, everything, 1)
    known = {ONE.name: Told(ONE.kind, ONE.over, 1, 1)}
    (over,) = Ledger(0, 10_000).turn([], known, everything, 2)
    again = [Ledger(0, 1).turn([ONE], known, everything, at)[0] for at in (5, 6)]
    ids = [message_of(notice, "w").fields["id"] for notice in (begun, over, *again)]
    assert len(set(ids)) == 4
    assert ids == [message_of(notice, "another").fields["id"] for notice in (begun, over, *again)]


def test_a_worker_tells_nobody_unless_it_is_told_whom() -> None:
    options = load_settings(None, {}, {}).notify
    assert not Notifier(options, "w", Keeping(), lambda: ([], everything)).needed


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("on", "budget,rain", "some of breaker, budget, edge, lag, watch"),
        ("watch", "192.0.2.1/24", "networks such as"),
        ("webhook", "ftp://example.org", "an http or https address"),
        ("mail_to", "ops", "mail addresses"),
        ("mail_to", " , ", "mail addresses"),
        ("on", ",", "some of breaker"),
    ],
)
def test_options_say_what_they_want(option: str, value: str, wanted: str) -> None:
    with pytest.raises(OperatorError, match=wanted):
        load_settings(None, {}, {f"notify.{option}": value})
