"""One event a connection: what counts as one, what it says, and what happens at the limits."""

from __future__ import annotations

import pytest

from engine.edge import connections
from engine.edge.connections import Connections
from engine.edge.lookup import EXCESS
from engine.edge.protocols.policy import DUNNO, PolicySession
from engine.edge.reply import Reply
from engine.edge.service import Desk
from engine.edge.shadow import Shadow
from engine.edge.table import Table
from tests.support.transcripts import NOW_MS, row
from topics.events import ConnectionEvent, parse_event

QUIET_MS = 5_000


@pytest.fixture
def desk() -> Desk:
    table = Table(10)
    table.trusted_until_ms = 1 << 60
    table.put(row("192.0.2.7/32", 10000007), NOW_MS)
    return Desk(table, Connections(QUIET_MS), Reply("busy"))


def events(desk: Desk) -> list[ConnectionEvent]:
    return [parse_event(ended.event("mx1")) for ended in desk.connections.take_ended(1000)]


def request(ip: str, port: int, instance: str, recipient: str = "u@example.org") -> bytes:
    return (
        f"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={ip}\nclient_port={port}\n"
        f"instance={instance}\nrecipient={recipient}\n\n"
    ).encode()


def test_postfix_repeats_itself_and_is_counted_once(desk: Desk) -> None:
    session = PolicySession(desk)
    for instance, recipient in [("1", "a"), ("1", "a"), ("1", "b"), ("2", "a"), ("2", "c"), ("2", "c"), ("2", "d")]:
        session.receive(request("203.0.113.9", 25, instance, recipient), NOW_MS)
    assert events(desk) == []
    session.receive(request("203.0.113.10", 25, "3"), NOW_MS + 9)
    assert events(desk) == [ConnectionEvent(NOW_MS, "203.0.113.9", "mx1", 2, 5, "accepted")]
    session.close()
    assert events(desk) == [ConnectionEvent(NOW_MS + 9, "203.0.113.10", "mx1", 1, 1, "accepted")]


POSTFIX = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=%b\nclient_name=unknown\n"
    b"client_port=%d\nreverse_client_name=unknown\nserver_address=203.0.113.1\nserver_port=25\nhelo_name=x\n"
    b"sender=a@example.net\nrecipient=%b\nrecipient_count=0\nqueue_id=\ninstance=1.%d.0\nsize=0\netrn_domain=\nstress=\n"
    b"sasl_method=\nsasl_username=\nsasl_sender=\npolicy_context=\n\n"
)


def test_what_postfix_sends_is_taken_apart_at_once_from_the_second_request_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = PolicySession(desk)
    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"a", 1), NOW_MS) == DUNNO
    monkeypatch.setattr(PolicySession, "_answer", None)
    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"b", 1), NOW_MS) == DUNNO
    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"b", 2), NOW_MS).startswith(b"action=451 ")
    assert session.receive(POSTFIX % (b"203.0.113.9", 26, b"b", 3), NOW_MS) == DUNNO
    session.close()
    assert [(event.ip, event.messages, event.recipients) for event in events(desk)] == [
        ("192.0.2.7", 1, 2),
        ("203.0.113.9", 1, 1),
    ]


def test_restriction_lists_on_several_processes_are_one_connection_each(desk: Desk) -> None:
    one, two = PolicySession(desk), PolicySession(desk)
    one.receive(request("203.0.113.9", 25, "1"), NOW_MS)
    two.receive(request("203.0.113.9", 26, "2"), NOW_MS)
    one.close()
    two.close()
    assert [event.messages for event in events(desk)] == [1, 1]


def test_a_connection_that_goes_quiet_has_ended(desk: Desk) -> None:
    session = PolicySession(desk)
    session.receive(request("203.0.113.9", 25, "1"), NOW_MS)
    desk.connections.end_quiet(NOW_MS + QUIET_MS - 1)
    assert events(desk) == []
    desk.connections.end_quiet(NOW_MS + QUIET_MS)
    assert len(events(desk)) == 1
    session.receive(request("203.0.113.9", 25, "2"), NOW_MS + 60_000)
    session.close()
    assert [event.messages for event in events(desk)] == [1]


def test_our_own_deferrals_are_retries_and_no_demand(desk: Desk) -> None:
    for instance in "123":
        desk.ask("k", "192.0.2.7", instance, "u@example.org", NOW_MS)
    desk.ask("l", "192.0.2.7", "4", "u@example.org", NOW_MS)
    desk.connections.end_all()
    mixed, deferred = desk.connections.take_ended(10)
    assert parse_event(mixed.event("mx1")) == ConnectionEvent(NOW_MS, "192.0.2.7", "mx1", 1, 1, "accepted")
    assert b'"deferred_messages":2' in mixed.event("mx1")
    assert parse_event(deferred.event("mx1")) == ConnectionEvent(NOW_MS, "192.0.2.7", "mx1", 1, 1, "deferred")


def test_in_shadow_mode_what_would_have_been_deferred_was_accepted(desk: Desk) -> None:
    desk.shadow = Shadow(everything=True)
    for instance in "123":
        desk.ask("k", "192.0.2.7", instance, "", NOW_MS)
    desk.connections.end_all()
    assert [(event.messages, event.outcome) for event in events(desk)] == [(3, "accepted")]
    assert (desk.shadowed, desk.answered["excess"], desk.answered["shadow"]) == ({("edge", "volume"): 2}, 0, 2)
    assert [remark.partition(" ")[0] for remark in desk.remarks] == ["edge:", "edge:"]


def test_what_the_engine_has_in_shadow_defers_nobody_and_takes_its_tokens(desk: Desk) -> None:
    shadow = row("198.51.100.7/32", 30000001)._replace(shadow=True)
    desk.table.put(shadow, NOW_MS)
    assert [desk.ask_once("198.51.100.7", NOW_MS).why for _ in range(3)] == ["within", "shadow", "shadow"]
    assert desk.shadowed == {("engine", "pool"): 2}
    assert "AS30000001" in desk.remarks[0]
    desk.table.put(shadow._replace(shadow=False), NOW_MS)
    assert desk.ask_once("198.51.100.7", NOW_MS).why == EXCESS
    desk.table.put(shadow, NOW_MS)
    assert desk.ask_once("198.51.100.7", NOW_MS).why == "shadow"


def test_what_is_live_around_a_shadow_still_defers(desk: Desk) -> None:
    desk.table.put(row("192.0.2.9/32", 10000009)._replace(shadow=True, burst=9.0), NOW_MS)
    desk.table.put(row("192.0.2.0/24", 20000024), NOW_MS)
    assert [desk.ask_once("192.0.2.9", NOW_MS).why for _ in range(2)] == ["within", EXCESS]
    assert desk.look("192.0.2.9", NOW_MS).tag == 20000024
    assert not desk.shadowed


def test_reasons_and_networks_may_be_in_shadow_alone(desk: Desk) -> None:
    desk.table.put(row("198.51.100.7/32", 20000001), NOW_MS)
    for shadow, deferred in (
        (Shadow(reasons=["probation"]), ["192.0.2.7"]),
        (Shadow(reasons=["volume"]), ["198.51.100.7"]),
        (Shadow(networks=["192.0.2.0/25", "2001:db8::/32"]), ["198.51.100.7"]),
        (Shadow(reasons=["pool"], networks=["203.0.113.0/24"]), ["192.0.2.7", "198.51.100.7"]),
    ):
        desk.shadow = shadow
        heard = {ip: [desk.ask_once(ip, NOW_MS).why for _ in range(3)][-1] for ip in ("192.0.2.7", "198.51.100.7")}
        assert [ip for ip, why in heard.items() if why == EXCESS] == deferred
    assert str(shadow) == "pool, 203.0.113.0/24"


def test_a_connection_without_a_message_counts_none(desk: Desk) -> None:
    desk.greet("k", "203.0.113.9", NOW_MS)
    desk.connections.end_all()
    assert [(event.messages, event.recipients) for event in events(desk)] == [(0, 0)]


def test_no_event_comes_of_what_is_no_address(desk: Desk) -> None:
    desk.ask("k", "unknown", "1", "", NOW_MS)
    desk.greet("l", "", NOW_MS)
    desk.connections.end_all()
    assert events(desk) == []


def test_at_the_limit_the_one_silent_longest_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OPEN", 2)
    for key in "abac":
        desk.ask(key, f"203.0.113.{ord(key)}", "1", "", NOW_MS)
    assert [event.ip for event in events(desk)] == [f"203.0.113.{ord('b')}"]
    assert len(desk.connections) == 2


def test_what_nobody_takes_is_dropped_at_the_limit_and_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_ENDED", 3)
    for _ in range(5):
        desk.ask_once("203.0.113.9", NOW_MS)
    assert (len(events(desk)), desk.connections.dropped) == (3, 2)


def test_what_nobody_reports_is_forgotten() -> None:
    silent = Connections(QUIET_MS, reported=False)
    silent.heard("k", "203.0.113.9", NOW_MS)
    silent.end_quiet(NOW_MS + QUIET_MS)
    assert (len(silent), silent.take_ended(10), silent.dropped) == (0, [], 0)


def named(ip: str, instance: str, client_name: str, helo_name: str) -> bytes:
    names = f"client_name={client_name}\nhelo_name={helo_name}\n".encode()
    return request(ip, 25, instance).replace(b"instance=", names + b"instance=", 1)


@pytest.mark.parametrize(
    ("suffix", "client_name", "helo_name", "passes"),
    [
        ("client:.example.com", "mx1.example.com", "x", True),
        ("client:.example.com", "Example.COM.", "x", True),
        ("client:.example.com", "mx1.badexample.com", "x", False),
        ("client:.example.com", "unknown", "mx1.example.com", False),
        ("client:.example.com", "", "", False),
        ("helo:.mx.example.com", "unknown", "a.mx.example.com", True),
        ("helo:.mx.example.com", "a.mx.example.com", "example.com", False),
    ],
)
def test_an_exempt_name_passes_where_its_address_would_be_deferred(
    desk: Desk, suffix: str, client_name: str, helo_name: str, passes: bool
) -> None:
    desk.table.exempt_name(suffix, NOW_MS + 1)
    session = PolicySession(desk)
    replies = [
        session.receive(named("192.0.2.7", instance, client_name, helo_name), NOW_MS) for instance in ("1", "2", "2")
    ]
    assert [reply.startswith(b"action=DUNNO") for reply in replies] == [True, passes, passes]
    session.close()
    (event,) = events(desk)
    assert (event.messages, event.outcome) == ((2, "accepted") if passes else (1, "accepted"))
    assert session.receive(named("192.0.2.7", "3", client_name, helo_name), NOW_MS + 1).startswith(b"action=451")
