"""Each connection becomes one event: its boundaries, its counts, and the limits of the tracker."""

from __future__ import annotations

import pytest

from engine.edge import connections
from engine.edge.connections import ConnectionTracker
from engine.edge.lookup import EXCESS
from engine.edge.protocols.policy import DUNNO, PolicySession
from engine.edge.reply import ReplyText
from engine.edge.service import EdgeService
from engine.edge.shadow import EdgeShadow
from engine.edge.table import DecisionTable
from tests.support.transcripts import NOW_MS, row
from topics.events import ConnectionEvent, parse_event

QUIET_MS = 5_000


@pytest.fixture
def service() -> EdgeService:
    table = DecisionTable(10)
    table.trust_until(1 << 60)
    table.put(row("192.0.2.7/32", 10000007), NOW_MS)
    return EdgeService(table, ConnectionTracker(QUIET_MS), ReplyText("busy"))


def in_shadow(service: EdgeService, shadow: EdgeShadow) -> EdgeService:
    """Return a service on the same table and connections, with another shadow."""
    return EdgeService(service.table, service.connections, service.reply_text, shadow)


def events(service: EdgeService) -> list[ConnectionEvent]:
    return [parse_event(ended.event("mx1")) for ended in service.connections.pop_ended(1000)]


def request(ip: str, port: int, instance: str, recipient: str = "u@example.org") -> bytes:
    return (
        f"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={ip}\nclient_port={port}\n"
        f"instance={instance}\nrecipient={recipient}\n\n"
    ).encode()


def test_repeated_postfix_requests_are_counted_once(service: EdgeService) -> None:
    session = PolicySession(service)
    for instance, recipient in [("1", "a"), ("1", "a"), ("1", "b"), ("2", "a"), ("2", "c"), ("2", "c"), ("2", "d")]:
        session.receive(request("203.0.113.9", 25, instance, recipient), NOW_MS)
    assert events(service) == []

    session.receive(request("203.0.113.10", 25, "3"), NOW_MS + 9)
    assert events(service) == [ConnectionEvent(NOW_MS, "203.0.113.9", "mx1", 2, 5, "accepted")]
    session.close()
    assert events(service) == [ConnectionEvent(NOW_MS + 9, "203.0.113.10", "mx1", 1, 1, "accepted")]


POSTFIX = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=%b\nclient_name=unknown\n"
    b"client_port=%d\nreverse_client_name=unknown\nserver_address=203.0.113.1\nserver_port=25\nhelo_name=x\n"
    b"sender=a@example.net\nrecipient=%b\nrecipient_count=0\nqueue_id=\ninstance=1.%d.0\nsize=0\netrn_domain=\nstress=\n"
    b"sasl_method=\nsasl_username=\nsasl_sender=\npolicy_context=\n\n"
)


def test_second_postfix_request_is_parsed_in_one_step(service: EdgeService, monkeypatch: pytest.MonkeyPatch) -> None:
    session = PolicySession(service)
    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"a", 1), NOW_MS) == DUNNO

    monkeypatch.setattr(PolicySession, "respond", None)

    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"b", 1), NOW_MS) == DUNNO
    assert session.receive(POSTFIX % (b"192.0.2.7", 25, b"b", 2), NOW_MS).startswith(b"action=451 ")
    assert session.receive(POSTFIX % (b"203.0.113.9", 26, b"b", 3), NOW_MS) == DUNNO
    session.close()
    assert [(event.ip, event.messages, event.recipients) for event in events(service)] == [
        ("192.0.2.7", 1, 2),
        ("203.0.113.9", 1, 1),
    ]


def test_each_smtpd_process_has_its_own_connection(service: EdgeService) -> None:
    first, second = PolicySession(service), PolicySession(service)
    first.receive(request("203.0.113.9", 25, "1"), NOW_MS)
    second.receive(request("203.0.113.9", 26, "2"), NOW_MS)

    first.close()
    second.close()

    assert [event.messages for event in events(service)] == [1, 1]


def test_quiet_connection_is_ended(service: EdgeService) -> None:
    session = PolicySession(service)
    session.receive(request("203.0.113.9", 25, "1"), NOW_MS)
    service.connections.end_quiet(NOW_MS + QUIET_MS - 1)
    assert events(service) == []

    service.connections.end_quiet(NOW_MS + QUIET_MS)
    assert len(events(service)) == 1

    session.receive(request("203.0.113.9", 25, "2"), NOW_MS + 60_000)
    session.close()
    assert [event.messages for event in events(service)] == [1]


def test_deferred_messages_are_reported_apart_from_passed_ones(service: EdgeService) -> None:
    for instance in "123":
        service.check("k", "192.0.2.7", instance, "u@example.org", NOW_MS)
    service.check("l", "192.0.2.7", "4", "u@example.org", NOW_MS)
    service.connections.end_all()
    mixed, deferred = service.connections.pop_ended(10)

    assert parse_event(mixed.event("mx1")) == ConnectionEvent(NOW_MS, "192.0.2.7", "mx1", 1, 1, "accepted")
    assert b'"deferred_messages":2' in mixed.event("mx1")
    assert parse_event(deferred.event("mx1")) == ConnectionEvent(NOW_MS, "192.0.2.7", "mx1", 1, 1, "deferred")


def test_shadow_mode_accepts_and_counts_deferrals(service: EdgeService) -> None:
    service = in_shadow(service, EdgeShadow(everything=True))

    for instance in "123":
        service.check("k", "192.0.2.7", instance, "", NOW_MS)
    service.connections.end_all()

    assert [(event.messages, event.outcome) for event in events(service)] == [(3, "accepted")]
    assert (service.shadowed, service.answered["excess"], service.answered["shadow"]) == ({("edge", "volume"): 2}, 0, 2)
    assert [line.partition(" ")[0] for line in service.shadow_log] == ["edge:", "edge:"]


def test_decision_in_the_engines_shadow_consumes_tokens_and_defers_nothing(service: EdgeService) -> None:
    shadow = row("198.51.100.7/32", 30000001)._replace(shadow=True)
    service.table.put(shadow, NOW_MS)
    assert [service.check_once("198.51.100.7", NOW_MS).why for _ in range(3)] == ["within", "shadow", "shadow"]
    assert service.shadowed == {("engine", "pool"): 2}
    assert "AS30000001" in service.shadow_log[0]

    service.table.put(shadow._replace(shadow=False), NOW_MS)
    assert service.check_once("198.51.100.7", NOW_MS).why == EXCESS

    service.table.put(shadow, NOW_MS)
    assert service.check_once("198.51.100.7", NOW_MS).why == "shadow"


def test_enforced_decision_around_a_shadow_defers(service: EdgeService) -> None:
    service.table.put(row("192.0.2.9/32", 10000009)._replace(shadow=True, burst=9.0), NOW_MS)
    service.table.put(row("192.0.2.0/24", 20000024), NOW_MS)

    assert [service.check_once("192.0.2.9", NOW_MS).why for _ in range(2)] == ["within", EXCESS]
    assert service.peek("192.0.2.9", NOW_MS).tag == 20000024
    assert not service.shadowed


def test_shadow_covers_only_its_reasons_and_networks(service: EdgeService) -> None:
    service.table.put(row("198.51.100.7/32", 20000001), NOW_MS)
    for shadow, deferred in (
        (EdgeShadow(reasons=["probation"]), ["192.0.2.7"]),
        (EdgeShadow(reasons=["volume"]), ["198.51.100.7"]),
        (EdgeShadow(networks=["192.0.2.0/25", "2001:db8::/32"]), ["198.51.100.7"]),
        (EdgeShadow(reasons=["pool"], networks=["203.0.113.0/24"]), ["192.0.2.7", "198.51.100.7"]),
    ):
        shadowed = in_shadow(service, shadow)
        whys = {ip: [shadowed.check_once(ip, NOW_MS).why for _ in range(3)][-1] for ip in ("192.0.2.7", "198.51.100.7")}
        assert [ip for ip, why in whys.items() if why == EXCESS] == deferred
    assert str(shadow) == "pool, 203.0.113.0/24"


def test_connection_without_a_message_counts_no_messages(service: EdgeService) -> None:
    service.on_connect("k", "203.0.113.9", NOW_MS)
    service.connections.end_all()

    assert [(event.messages, event.recipients) for event in events(service)] == [(0, 0)]


def test_unreadable_address_makes_no_event(service: EdgeService) -> None:
    service.check("k", "unknown", "1", "", NOW_MS)
    service.on_connect("l", "", NOW_MS)
    service.connections.end_all()

    assert events(service) == []


def test_quietest_connection_ends_at_the_limit(service: EdgeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_OPEN", 2)

    for key in "abac":
        service.check(key, f"203.0.113.{ord(key)}", "1", "", NOW_MS)

    assert [event.ip for event in events(service)] == [f"203.0.113.{ord('b')}"]
    assert len(service.connections) == 2


def test_ended_connections_beyond_the_limit_are_dropped_and_counted(
    service: EdgeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_ENDED", 3)

    for _ in range(5):
        service.check_once("203.0.113.9", NOW_MS)

    assert (len(events(service)), service.connections.dropped) == (3, 2)


def test_unreported_connections_are_forgotten() -> None:
    tracker = ConnectionTracker(QUIET_MS, reported=False)
    tracker.touch("k", "203.0.113.9", NOW_MS)

    tracker.end_quiet(NOW_MS + QUIET_MS)

    assert (len(tracker), tracker.pop_ended(10), tracker.dropped) == (0, [], 0)


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
def test_exempt_name_passes_although_its_address_is_throttled(
    service: EdgeService, suffix: str, client_name: str, helo_name: str, passes: bool
) -> None:
    service.table.exempt_name(suffix, NOW_MS + 1)
    session = PolicySession(service)

    replies = [
        session.receive(named("192.0.2.7", instance, client_name, helo_name), NOW_MS) for instance in ("1", "2", "2")
    ]

    assert [reply.startswith(b"action=DUNNO") for reply in replies] == [True, passes, passes]
    session.close()
    (event,) = events(service)
    assert (event.messages, event.outcome) == ((2, "accepted") if passes else (1, "accepted"))
    assert session.receive(named("192.0.2.7", "3", client_name, helo_name), NOW_MS + 1).startswith(b"action=451")
