"""Real mail servers beside a real edge and a real Kafka, with the snippets that are shipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.ports import free_port
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
DECIDED_S = 60.0  # an event waits until its connection has gone quiet; a burst goes on meanwhile
SPEAKS = {
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
    """An edge, and a server that asks it."""
    with started(request.param, env, tmp_path) as edge, SERVERS[request.param](edge.policy, edge.other) as server:
        edge.wait_for(lambda figures: figures["fresh"] == 1)
        yield edge, server


def started(name: str, env: dict[str, str], tmp_path: Path) -> EdgeProcess:
    port = free_port()
    speaks = {} if SPEAKS[name] in ("POLICY", "HTTP") else {SPEAKS[name]: f"127.0.0.1:{port}"}
    edge = EdgeProcess(env, tmp_path / "edge", **speaks)
    edge.other = edge.http if SPEAKS[name] == "HTTP" else port
    return edge


def eventually(server: MailServer, ip: str, *, deferred: bool) -> None:
    deadline_s = time.monotonic() + 20
    while (said := server.deliver(ip)).startswith("451") != deferred:
        assert time.monotonic() < deadline_s, said
        time.sleep(0.1)


def refusal(edge: EdgeProcess, server: MailServer, ip: str) -> str:
    """What a client hears that has no message left. A server that has waited its two seconds in vain, as on a machine that
    stands still, lets one pass, as it should: then it is asked again. The edge lets none pass."""
    passed = let_pass(edge)
    said = server.deliver(ip)
    if said.startswith("250"):
        said = server.deliver(ip)
    assert let_pass(edge) == passed, said
    return said


def let_pass(edge: EdgeProcess) -> dict[str, float]:
    """How many answers were no refusal, by why."""
    figures = edge.figures()
    return {name: figures[name] for name in figures if name.startswith("answers_total{") and "excess" not in name}


def test_the_throttled_client_hears_451_others_pass_and_with_the_edge_gone_all_do(
    pair: tuple[EdgeProcess, MailServer], broker: EmbeddedBroker, prefix: str
) -> None:
    edge, server = pair
    one, other, slow, network = server.CLIENTS
    decider = Decider(broker.bootstrap, prefix)
    assert server.deliver(one).startswith("250")
    decider.throttle(f"{one}/32")
    eventually(server, one, deferred=True)
    said = refusal(edge, server, one)
    assert server.refused(said, one), said
    assert server.deliver(other).startswith("250")
    decider.throttle(network, rate_per_min=90, burst=5)
    eventually(server, slow, deferred=True)
    began_s, passed = time.monotonic(), 0
    while time.monotonic() - began_s < 10:
        passed += server.deliver(slow).startswith("250")
    assert passed == pytest.approx(1.5 * (time.monotonic() - began_s), rel=0.1)
    decider.release(f"{one}/32")
    eventually(server, one, deferred=False)
    delivered = edge.wait_for(lambda figures: figures["events_delivered_total"] > 10)
    assert delivered["events_lost_total"] == 0
    edge.process.kill()
    edge.process.wait()
    began_s = time.monotonic()
    assert server.deliver(slow).startswith("250")
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("name", SERVERS)
def test_a_burst_is_counted_decided_and_deferred_and_with_the_engine_and_kafka_gone_mail_flows(
    name: str, broker_folder: Path, prefix: str, tmp_path: Path
) -> None:
    with EmbeddedBroker(broker_folder) as own:
        env = topics_for(own, prefix)
        with WorkerProcess(env, tmp_path) as worker, started(name, env, tmp_path) as edge:
            worker.wait_for(4, 0)
            with SERVERS[name](edge.policy, edge.other) as server:
                edge.wait_for(lambda figures: figures["fresh"] == 1)
                one, other, _, _ = server.CLIENTS
                replies = [server.deliver(one)]
                deadline_s = time.monotonic() + DECIDED_S
                while time.monotonic() < deadline_s and not replies[-1].startswith("451"):
                    replies.append(server.deliver(one))
                assert server.refused(replies[-1], one), (len(replies), replies[-1])
                assert all(said.startswith("250") for said in replies[:30])
                assert server.deliver(other).startswith("250")
                worker.kill()
                own.kill()
                assert server.refused(refusal(edge, server, one), one)
                began_s = time.monotonic()
                assert server.deliver(other).startswith("250")
                assert time.monotonic() - began_s < 5
