"""A worker on a real Kafka applies another configuration while it runs, and decisions name their configuration."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import orjson
import pytest

from benchmarks.harness.ports import free_port
from engine.broker import EmbeddedBroker
from tests.support.workers import WorkerProcess, environment, tidegate, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def burst(ip: str, count: int) -> bytes:
    now_ms = int(time.time() * 1000)
    events = ({"ts": now_ms - 60_000 + i, "ip": ip, "messages": 1, "recipients": 1} for i in range(count))
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


def test_thresholds_change_while_a_worker_runs(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text('[model]\nsensitivity = "high"\n')
    env = environment(broker.bootstrap, prefix, 2, WORKER_HTTP=f"127.0.0.1:{free_port()}", CONFIG=file)
    assert tidegate("topics", "--create", env=env).returncode == 0
    with WorkerProcess(env, tmp_path) as worker:
        assert tidegate("produce", "-", env=env, stdin=burst("192.0.2.1", 2_000)).returncode == 0
        worker.wait_for(2, 2_000)
        first = worker.status["config"]
        until(lambda: tidegate("config", "--running", env=env).returncode == 0, "a worker that responds")

        file.write_text('[model]\nsensitivity = "low"\n[relays]\nesp = ["198.51.100.0/24"]\n')
        assert tidegate("config", "--running", env=env).returncode == 1
        reloaded = tidegate("reload", env=env)
        assert reloaded.returncode == 0, reloaded.stderr.decode()
        assert b"(model.sensitivity, relays) is active from now on" in reloaded.stdout
        assert tidegate("produce", "-", env=env, stdin=burst("192.0.2.2", 2_000)).returncode == 0
        worker.wait_for(2, 4_000)
        second = worker.status["config"]

        file.write_text('[model]\nsensitivity = "high"\n[worker]\nfetch_bytes = 100000\n')
        refused = tidegate("reload", env=env)
        assert refused.returncode == 2
        assert (
            b"the worker keeps its configuration: worker.fetch_bytes changed, which needs a restart" in refused.stderr
        )
        file.write_text('[model]\nsensitivity = "much"\n')
        assert b"is not valid" in tidegate("reload", env=env).stderr
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: "configuration refused" in (tmp_path / "worker.log").read_text(), "a refusal in the log")
        assert worker.status["config"] == second
        assert worker.stop() == 0
    file.write_text("")
    shown = tidegate("decisions", "--no-follow", "--json", env=env)
    made = {decision["network"]: decision["config"] for decision in map(orjson.loads, shown.stdout.splitlines())}
    assert made == {"192.0.2.1/32": first, "192.0.2.2/32": second}
    assert first != second
