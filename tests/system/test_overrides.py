"""Overrides on a real cluster: edges apply them immediately, the worker withdraws throttles, and a replay agrees."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.broker import EmbeddedBroker
from tests.support.edges import EdgeProcess, Smtpd
from tests.support.workers import WorkerProcess, environment, tidegate, until

pytestmark = pytest.mark.timeout(240)
DUNNO = "DUNNO"


@pytest.fixture
def env(broker: EmbeddedBroker, prefix: str) -> dict[str, str]:
    made = environment(broker.bootstrap, prefix, 2)
    assert tidegate("topics", "--create", env=made).returncode == 0
    return made


def run(env: dict[str, str], *arguments: str) -> bytes:
    ran = tidegate(*arguments, env=env)
    assert ran.returncode == 0, (arguments, ran.stdout.decode(), ran.stderr.decode())
    return ran.stdout


def lines(env: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in run(env, *arguments).splitlines()]


def decisions(env: dict[str, str]) -> list[dict[str, Any]]:
    return lines(env, "decisions", "--no-follow", "--json")


def burst(ip: str, at_ms: int, messages: int = 5000) -> bytes:
    return orjson.dumps({"ts": at_ms, "ip": ip, "messages": messages}) + b"\n"


def produce(env: dict[str, str], folder: Path, events: bytes) -> None:
    path = folder / "events.ndjson"
    path.write_bytes(events)
    with (folder / "all.ndjson").open("ab") as every:
        every.write(events)
    run(env, "produce", str(path))


def latest(env: dict[str, str], network: str) -> dict[str, Any]:
    """Return the last decision on a network."""
    return [made for made in decisions(env) if made["network"] == network][-1]


def passes(edge: EdgeProcess, ip: str) -> bool:
    return bool(orjson.loads(edge.get(f"/v1/decisions/{ip}")[1])["verdict"] == "none")


def spend(edge: EdgeProcess, ip: str) -> None:
    """Send messages until one is deferred."""
    smtpd = Smtpd(edge.policy)
    until(lambda: smtpd.ask(ip, 1025, str(time.monotonic_ns())) != DUNNO, f"a deferral of {ip}")
    smtpd.close()


def test_override_reaches_edges_and_engine_and_a_replay_decides_the_same(env: dict[str, str], tmp_path: Path) -> None:
    ips = ["192.0.2.7", "192.0.2.99", "198.51.100.7", "203.0.113.7", "2001:db8:1:2::25"]
    with (
        WorkerProcess(env, tmp_path) as worker,
        EdgeProcess(env, tmp_path / "one", EVENTS="off") as one,
        EdgeProcess(env, tmp_path / "two", EVENTS="off") as two,
    ):
        now_ms = int(time.time() * 1000)
        produce(env, tmp_path, b"".join(burst(ip, now_ms) for ip in ips))
        worker.wait_for(2, len(ips))
        for edge in (one, two):
            edge.wait_for(lambda figures: figures["decisions"] >= len(ips) and figures["fresh"] == 1)
            for ip in ips:
                spend(edge, ip)
        run(env, "connector", "add", "192.0.2.0/24", "--owner", "ACME", "--reason", "our MX")
        run(env, "release", "2001:db8::/32", "--grace", "2h", "--reason", "ticket 1", "--by", "me")
        run(env, "throttle", "203.0.113.0/24", "--rate", "0/h", "--until", "12h", "--burst", "1")
        for edge in (one, two):
            for ip in ("192.0.2.7", "192.0.2.99", "2001:db8:1:2::25"):
                until(partial(passes, edge, ip), f"{ip} let pass")
            assert not passes(edge, "198.51.100.7")
            spend(edge, "203.0.113.200")
        until(lambda: latest(env, "192.0.2.7/32")["verdict"] == "release", "a withdrawal")
        until(lambda: latest(env, "2001:db8:1:2::/64")["verdict"] == "release", "a withdrawal")
        assert latest(env, "192.0.2.7/32")["evidence"]["override"]["reason"] == "our MX"
        assert latest(env, "203.0.113.0/24")["reason"] == "override"
        assert latest(env, "203.0.113.7/32")["verdict"] == "release"
        assert latest(env, "198.51.100.7/32")["verdict"] == "throttle"

        later_ms = int(time.time() * 1000) + 1
        again = [burst(ip, later_ms, 90_000) for ip in ("192.0.2.50", "192.0.2.7", "203.0.113.9", "198.51.100.8")]
        produce(env, tmp_path, b"".join(again))
        worker.wait_for(2, len(ips) + len(again))
        until(lambda: bool([made for made in decisions(env) if made["network"] == "198.51.100.8/32"]), "a decision")
        assert {latest(env, f"{ip}/32")["verdict"] for ip in ("192.0.2.50", "192.0.2.7", "203.0.113.9")} == {"release"}
        assert worker.status["since_start"]["withheld"] == 2  # one of them was throttled before

        explained = orjson.loads(run(env, "explain", "192.0.2.7", "--json"))
        assert (explained["throttled"], explained["overrides"][0]["owner"]) == (False, "ACME")
        assert b"exempt, so it passes" in run(env, "explain", "192.0.2.7")
        assert worker.stop() == 0
    audit = run(env, "audit", "--json")
    assert [orjson.loads(line)["action"] for line in audit.splitlines()] == ["connector", "release", "throttle"]
    (tmp_path / "overrides.ndjson").write_bytes(audit)
    replayed = lines(env, "replay", str(tmp_path / "all.ndjson"), "--overrides", str(tmp_path / "overrides.ndjson"),
                     "--decisions", "-")  # fmt: skip
    assert last_verdicts(replayed) == last_verdicts(decisions(env))


def last_verdicts(made: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return the last verdict and reason of each network."""
    return {last["network"]: (last["verdict"], last.get("reason", "")) for last in made}


def test_restarted_worker_keeps_withdrawals_until_the_override_is_removed(env: dict[str, str], tmp_path: Path) -> None:
    with WorkerProcess(env, tmp_path) as worker:
        produce(env, tmp_path, burst("192.0.2.7", int(time.time() * 1000)))
        worker.wait_for(2, 1, durable=False)
        until(lambda: bool(decisions(env)), "a decision")
        worker.kill()
    run(env, "release", "192.0.2.7", "--grace", "1h")
    with WorkerProcess(env, tmp_path) as worker:
        worker.wait_for(2, 1)
        until(lambda: latest(env, "192.0.2.7/32")["verdict"] == "release", "a withdrawal by the new owner")
        produce(env, tmp_path, burst("192.0.2.7", int(time.time() * 1000), 90_000))
        worker.wait_for(2, 2)
        assert latest(env, "192.0.2.7/32")["verdict"] == "release"
        run(env, "connector", "remove", "192.0.2.7", "--reason", "over")
        produce(env, tmp_path, burst("192.0.2.8", int(time.time() * 1000) + 1))
        worker.wait_for(2, 3)
        until(lambda: latest(env, "192.0.2.8/32")["verdict"] == "throttle", "a decision")
        assert worker.stop() == 0
    assert run(env, "connector", "list", "--all").count(b"\n") == 1
    assert [line["action"] for line in lines(env, "audit", "192.0.2.0/24", "--json")] == ["release", "remove"]


def test_invalid_override_is_an_error_of_one_line(env: dict[str, str]) -> None:
    for arguments, wanted in (
        (("connector", "add", "192.0.2.1/24", "--owner", "a", "--reason", "b"), "give 192.0.2.0/24"),
        (("release", "192.0.2.7", "--grace", "soon"), "give one such as 30m, 2h or 7d"),
        (("throttle", "192.0.2.7", "--rate", "fast", "--until", "2h"), "give one such as 60/h"),
        (("throttle", "helo:.example.com", "--rate", "1/h", "--until", "2h"), "give a network"),
        (("audit", "nowhere"), "is no network"),
    ):
        ran = tidegate(*arguments, env=env)
        assert ran.returncode == 2
        assert wanted in ran.stderr.decode()
        assert ran.stderr.count(b"\n") == 1
