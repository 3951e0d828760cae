"""The edge with a real Kafka: it applies decisions and returns events, and answers on while Kafka or the edge fails."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.edges import Decider, EdgeProcess, Smtpd, read_events
from tests.support.workers import environment, tidegate
from topics.keys import key_of, key_text
from topics.partitioner import partition_of

pytestmark = pytest.mark.timeout(240)

DUNNO = "DUNNO"


@pytest.fixture
def env(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    made = environment(broker.bootstrap, prefix, 4)
    assert tidegate("topics", "--create", env=made).returncode == 0
    return made


@pytest.fixture
def engine(broker: EmbeddedBroker, prefix: str) -> Decider:
    return Decider(broker.bootstrap, prefix)


def wait_for_answer(edge: EdgeProcess, ip: str, wanted: str, field: str = "verdict") -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        if orjson.loads(edge.get(f"/v1/decisions/{ip}")[1])[field] == wanted:
            return
        time.sleep(0.02)
    raise AssertionError(f"{ip} is not {wanted}: {edge.get(f'/v1/decisions/{ip}')}")


def test_decisions_are_applied_expire_and_end_by_release_or_exemption(
    env: dict[str, str], engine: Decider, tmp_path: Path
) -> None:
    engine.throttle("192.0.2.7/32")
    with EdgeProcess(env, tmp_path / "edge") as edge:
        edge.wait_for(lambda figures: figures["fresh"] == 1 and figures["decisions"] == 1)
        smtpd = Smtpd(edge.policy)

        assert smtpd.ask("192.0.2.7", 1025, "1") == DUNNO
        assert (
            smtpd.ask("192.0.2.7", 1025, "2")
            .removeprefix("451 4.7.500 Server busy. Please try again later from [192.0.2.7]; retry in ")
            .endswith(" s. (AS12345678)")
        )
        assert smtpd.ask("192.0.2.8", 1025, "3") == DUNNO

        engine.release("192.0.2.7/32")
        wait_for_answer(edge, "192.0.2.7", "none")

        engine.throttle("2001:db8:1:2::/64", lasts_s=1.5)
        wait_for_answer(edge, "2001:db8:1:2::9", "within", "why")
        assert smtpd.ask("2001:db8:1:2::9", 1025, "4") == DUNNO
        wait_for_answer(edge, "2001:db8:1:2::9", "defer")
        wait_for_answer(edge, "2001:db8:1:2::9", "none")  # expired by the clock

        engine.throttle("198.51.100.7/32")
        wait_for_answer(edge, "198.51.100.7", "within", "why")
        assert smtpd.ask("198.51.100.7", 1025, "5") == DUNNO
        wait_for_answer(edge, "198.51.100.7", "defer")

        engine.exempt("198.51.100.0/24")
        wait_for_answer(edge, "198.51.100.7", "none")
        assert edge.stop() == 0


def test_each_connection_becomes_one_event_with_the_senders_key(
    env: dict[str, str], broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    ips = [f"192.0.2.{number}" for number in range(60)] + [f"2001:db8:{number:x}::25" for number in range(40)]
    with EdgeProcess(env, tmp_path / "edge") as edge:
        smtpd = Smtpd(edge.policy)
        for number, ip in enumerate(ips):
            for message in range(2):
                for _ in range(2):
                    assert smtpd.ask(ip, 2000 + number, f"{number}.{message}") == DUNNO
        smtpd.close()
        edge.wait_for(lambda figures: figures["events_delivered_total"] == len(ips))
        assert edge.stop() == 0
    messages = read_events(broker.bootstrap, prefix + "connections", len(ips))
    received = [orjson.loads(message.value() or b"") for message in messages]
    assert sorted(event["ip"] for event in received) == sorted(ips)
    assert {(event["messages"], event["recipients"], event["outcome"], event["mta"]) for event in received} == {
        (2, 2, "accepted", "edge")
    }
    for record, event in zip(messages, received, strict=True):
        key = key_text(key_of(event["ip"])).encode()
        assert (record.key(), record.partition(), record.timestamp()[1]) == (key, partition_of(key, 4), event["ts"])


def test_live_edges_share_a_rate(env: dict[str, str], engine: Decider, tmp_path: Path) -> None:
    engine.throttle("192.0.2.7/32", rate_per_min=0.0, burst=10.0)
    with EdgeProcess(env, tmp_path / "one") as one:
        one.wait_for(lambda figures: figures["edges"] == 1)
        with EdgeProcess(env, tmp_path / "two") as two:
            for edge in (one, two):
                edge.wait_for(lambda figures: figures["edges"] == 2 and figures["fresh"] == 1)
                smtpd = Smtpd(edge.policy)
                actions = [smtpd.ask("192.0.2.7", 1025, str(number)) for number in range(10)]
                assert [action == DUNNO for action in actions] == [True] * 5 + [False] * 5
            assert two.stop() == 0
        one.wait_for(lambda figures: figures["edges"] == 1)


def test_outage_of_kafka_leaves_answers_and_expiry_and_events_arrive_once(
    broker_folder: Path, prefix: str, tmp_path: Path
) -> None:
    port = free_port()
    with EmbeddedBroker(broker_folder, port=port) as broker:
        env = environment(broker.bootstrap, prefix, 4)
        assert tidegate("topics", "--create", env=env).returncode == 0
        engine = Decider(broker.bootstrap, prefix)
        engine.throttle("192.0.2.7/32")
        engine.throttle("192.0.2.8/32", lasts_s=12)
        edge = EdgeProcess(
            {**env, "TIDEGATE_KAFKA_REQUEST_TIMEOUT_MS": "3000"}, tmp_path / "edge", SNAPSHOT_INTERVAL_S=1
        )
        edge.__enter__()
        edge.wait_for(lambda figures: figures["decisions"] == 2 and figures["fresh"] == 1)
        smtpd = Smtpd(edge.policy)
        assert [smtpd.ask(ip, 1, ip) for ip in ("192.0.2.7", "192.0.2.8")] == [DUNNO] * 2
    expired_s = time.monotonic() + 12
    slowest_s = 0.0
    for number in range(200):
        began_s = time.monotonic()
        assert smtpd.ask("192.0.2.7", 2, f"outage {number}").startswith("451 4.7.500")
        assert smtpd.ask(f"203.0.113.{number}", 3, f"other {number}") == DUNNO
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    assert slowest_s < 1
    time.sleep(1.2)
    edge.process.kill()
    edge.__exit__()
    with EdgeProcess(env, tmp_path / "edge") as again:
        assert again.health()["decisions"] == 2
        wait_for_answer(again, "192.0.2.7", "defer")
        time.sleep(max(0, expired_s - time.monotonic()))
        wait_for_answer(again, "192.0.2.8", "none")
        assert again.figures()["spool_batches"] > 0
        with EmbeddedBroker(broker_folder, port=port) as broker:
            again.wait_for(lambda figures: figures["spool_batches"] == 0 and figures["fresh"] == 1)
            received = [
                orjson.loads(message.value() or b"")
                for message in read_events(broker.bootstrap, prefix + "connections", 402)
            ]
            assert again.stop() == 0
    ips = [event["ip"] for event in received if event["ip"].startswith("203.0.113.")]
    assert len(ips) == len(set(ips))
    assert len(ips) in (199, 200)  # the last one was open when the edge was killed


def test_edge_without_kafka_since_its_start_has_no_opinion(tmp_path: Path) -> None:
    env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
    with EdgeProcess(env, tmp_path / "edge") as edge:
        assert Smtpd(edge.policy).ask("192.0.2.7", 1, "1") == DUNNO
        assert edge.get("/health")[0] == 503
        assert edge.stop() == 0


def test_unreachable_broker_ends_no_edge_and_a_stop_is_quick(broker_folder: Path, prefix: str, tmp_path: Path) -> None:
    with EmbeddedBroker(broker_folder) as broker:
        env = environment(broker.bootstrap, prefix, 4, KAFKA_REQUEST_TIMEOUT_MS=1000)
        assert tidegate("topics", "--create", env=env).returncode == 0
        with EdgeProcess(env, tmp_path / "edge") as edge:
            edge.wait_for(lambda figures: figures["fresh"] == 1)
            smtpd, log = Smtpd(edge.policy), Path(edge.log.name)
            assert smtpd.ask("192.0.2.7", 1, "1") == DUNNO
            broker.kill()
            edge.wait_for(lambda figures: "decisions can't be read from Kafka" in log.read_text())
            assert smtpd.ask("192.0.2.8", 1, "2") == DUNNO
            began_s = time.monotonic()
            assert edge.stop() == 0
            assert time.monotonic() - began_s < 4
            assert list((tmp_path / "edge/state/spool").glob("*.events"))
