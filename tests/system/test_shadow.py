"""A reason in shadow mode on a real Kafka: edges report it and accept the mail; reloads enforce it and shadow it again."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.edges import EdgeProcess, Smtpd
from tests.support.workers import WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
DUNNO = "DUNNO"
IP, COUNT = "192.0.2.7", 2_000
HOUR_MS = 3_600_000
SHADOWED = 'shadowed_total{by="engine",reason="probation"}'


def burst(at_ms: int) -> bytes:
    events = ({"ts": at_ms + i, "ip": IP, "messages": 1, "recipients": 1} for i in range(COUNT))
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


def reload(file: Path, text: str, env: dict[str, str]) -> str:
    file.write_text(text)
    reloaded = tidegate("reload", env=env)
    assert reloaded.returncode == 0, reloaded.stderr.decode()
    return reloaded.stdout.decode()


def last_decision(env: dict[str, str]) -> str:
    shown = tidegate("decisions", "--no-follow", env=env)
    assert shown.returncode == 0, shown.stderr.decode()
    return [line for line in shown.stdout.decode().splitlines() if f"{IP}/32" in line][-1]


def test_reason_is_shadowed_then_enforced_then_shadowed_again(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path
) -> None:
    file, now_ms = tmp_path / "tidegate.toml", int(time.time() * 1000)
    shadow = '[model]\nshadow_reasons = "probation"\n'
    file.write_text(shadow)
    env = environment(broker.bootstrap, prefix, 1, WORKER_HTTP=f"127.0.0.1:{free_port()}", CONFIG=file)
    assert tidegate("topics", "--create", env=env).returncode == 0
    with WorkerProcess(env, tmp_path) as worker, EdgeProcess(env, tmp_path / "edge", EVENTS="off") as edge:
        assert tidegate("produce", "-", env=env, stdin=burst(now_ms - 20 * HOUR_MS)).returncode == 0
        worker.wait_for(1, COUNT)
        edge.wait_for(lambda figures: figures["decisions"] >= 1 and figures["fresh"] == 1)
        smtpd, replies = Smtpd(edge.policy), set[str]()

        def is_shadowed() -> bool:
            replies.add(smtpd.ask(IP, 1025, str(time.monotonic_ns())))
            return edge.figures()[SHADOWED] > 0

        until(is_shadowed, "a message that would have been deferred")
        assert replies == {DUNNO}
        assert "shadow: would be throttled to" in last_decision(env)
        assert worker.status["since_start"]["in_shadow"].keys() == {"probation"}
        assert worker.status["since_start"]["throttles"] == 0
        compared = tidegate("compare", "--shadow", "--json", env=env)
        assert compared.returncode == 0, compared.stderr.decode()
        all_senders = orjson.loads(compared.stdout)["all"]
        assert all_senders["old"]["delayed"] == 0 < all_senders["new"]["delayed"]

        assert "in shadow" not in reload(file, "", env)
        assert tidegate("produce", "-", env=env, stdin=burst(now_ms - 60_000)).returncode == 0
        worker.wait_for(1, 2 * COUNT)
        until(lambda: smtpd.ask(IP, 1025, str(time.monotonic_ns())).startswith("451 "), "a deferral")
        assert "; throttled to" in last_decision(env)
        assert "shadow" not in last_decision(env)

        assert "in shadow: probation; 1 throttles withdrawn" in reload(file, shadow, env)
        until(lambda: smtpd.ask(IP, 1025, str(time.monotonic_ns())) == DUNNO, "a message let pass")
        assert "was put in shadow by the configuration: probation" in last_decision(env)
        assert b"in shadow, so it passes" in tidegate("explain", IP, env=env).stdout
        smtpd.close()
        assert worker.stop() == 0
