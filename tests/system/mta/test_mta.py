"""Real mail servers with the shipped snippets, a real edge and a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.edges import Decider, EdgeProcess
from tests.support.workers import WorkerProcess, environment, tidegate
from tests.system.mta.opensmtpd import OpenSmtpd
from tests.system.mta.rspamd import PostfixWithRspamd
from tests.system.mta.sendmail import Sendmail
from tests.system.mta.servers import Exim, Haraka, MailServer, Postfix, PostfixWithMilter

pytestmark = [pytest.mark.mta, pytest.mark.timeout(300)]

SERVERS: dict[str, Callable[[int, int], MailServer]] = {
    "postfix": Postfix,
    "postfix-milter": PostfixWithMilter,
    "exim": Exim,
    "haraka": Haraka,
    "opensmtpd": OpenSmtpd,
    "sendmail": Sendmail,
    "rspamd": PostfixWithRspamd,
}
DECIDED_S = 60.0  # an event waits until its connection is quiet; the burst continues meanwhile
PROTOCOLS = {
    "postfix": "POLICY", "postfix-milter": "MILTER", "exim": "READSOCKET", "haraka": "HTTP", "opensmtpd": "OPENSMTPD",
    "sendmail": "MILTER", "rspamd": "HTTP",
}  # fmt: skip


def topics_for(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    made = environment(broker.bootstrap, prefix, 4)
    assert tidegate("topics", "--create", env=made).returncode == 0
    return made


@pytest.fixture
def env(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    return topics_for(broker, prefix)


@pytest.fixture(params=SERVERS)
def pair(
    request: pytest.FixtureRequest, env: dict[str, str], tmp_path: Path
) -> Iterator[tuple[EdgeProcess, MailServer]]:
    """An edge, and a mail server that asks it."""
    name = request.param
    with edge_for(name, env, tmp_path) as edge, SERVERS[name](edge.policy, edge.port(PROTOCOLS[name])) as server:
        edge.wait_for(lambda figures: figures["fresh"] == 1)
        yield edge, server


def edge_for(name: str, env: dict[str, str], tmp_path: Path) -> EdgeProcess:
    protocol = PROTOCOLS[name]
    options = {} if protocol in ("POLICY", "HTTP") else {protocol: f"127.0.0.1:{free_port()}"}
    return EdgeProcess(env, tmp_path / "edge", **options)


def wait_until_deferred(server: MailServer, ip: str, *, deferred: bool) -> None:
    deadline_s = time.monotonic() + 20
    while (reply := server.deliver(ip)).startswith("451") != deferred:
        assert time.monotonic() < deadline_s, reply
        time.sleep(0.1)


def refusal(edge: EdgeProcess, server: MailServer, ip: str) -> str:
    """Return the reply to a client that has no message left.

    A mail server whose two seconds run out on a stalled machine passes the message, by design; then it is asked again. The edge
    must pass none.
    """
    passed = passed_replies(edge)
    reply = server.deliver(ip)
    if reply.startswith("250"):
        reply = server.deliver(ip)
    assert passed_replies(edge) == passed, reply
    return reply


def passed_replies(edge: EdgeProcess) -> dict[str, float]:
    """Return the counts of replies that didn't defer, by reason."""
    figures = edge.figures()
    return {name: figures[name] for name in figures if name.startswith("replies_total{") and "excess" not in name}


def test_throttled_client_gets_451_and_all_pass_without_the_edge(
    pair: tuple[EdgeProcess, MailServer], broker: EmbeddedBroker, prefix: str
) -> None:
    edge, server = pair
    client, other, slow, network = server.CLIENTS
    decider = Decider(broker.bootstrap, prefix)
    assert server.deliver(client).startswith("250")
    decider.throttle(f"{client}/32")
    wait_until_deferred(server, client, deferred=True)
    reply = refusal(edge, server, client)
    assert server.refused(reply, client), reply
    assert server.deliver(other).startswith("250")
    decider.throttle(network, rate_per_min=90, burst=5)
    wait_until_deferred(server, slow, deferred=True)
    began_s, passed = time.monotonic(), 0
    while time.monotonic() - began_s < 10:
        passed += server.deliver(slow).startswith("250")
    assert passed == pytest.approx(1.5 * (time.monotonic() - began_s), rel=0.1)
    decider.release(f"{client}/32")
    wait_until_deferred(server, client, deferred=False)
    delivered = edge.wait_for(lambda figures: figures["events_delivered_total"] > 10)
    assert delivered["events_lost_total"] == 0
    edge.process.kill()
    edge.process.wait()
    began_s = time.monotonic()
    assert server.deliver(slow).startswith("250")
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("name", SERVERS)
def test_burst_is_deferred_and_decisions_outlive_the_engine_and_kafka(
    name: str, broker_folder: Path, prefix: str, tmp_path: Path
) -> None:
    with EmbeddedBroker(broker_folder) as own:
        env = topics_for(own, prefix)
        with WorkerProcess(env, tmp_path) as worker, edge_for(name, env, tmp_path) as edge:
            worker.wait_for(4, 0)
            with SERVERS[name](edge.policy, edge.port(PROTOCOLS[name])) as server:
                edge.wait_for(lambda figures: figures["fresh"] == 1)
                client, other, _, _ = server.CLIENTS
                replies = [server.deliver(client)]
                deadline_s = time.monotonic() + DECIDED_S
                while time.monotonic() < deadline_s and not replies[-1].startswith("451"):
                    replies.append(server.deliver(client))
                assert server.refused(replies[-1], client), (len(replies), replies[-1])
                assert all(reply.startswith("250") for reply in replies[:30])
                assert server.deliver(other).startswith("250")
                worker.kill()
                own.kill()
                assert server.refused(refusal(edge, server, client), client)
                began_s = time.monotonic()
                assert server.deliver(other).startswith("250")
                assert time.monotonic() - began_s < 5
