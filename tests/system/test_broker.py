"""The embedded broker from start to stop, with failures in between."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from engine.broker import EmbeddedBroker, bootstrap_of
from engine.kafka.topic_admin import ensure
from tests.support.kafkatools import run_tool
from tests.support.pace import scaled
from topics.contracts import contracts
from topics.errors import OperatorError

pytestmark = pytest.mark.system

WARM_START_S = 15.0
GONE_S = scaled(20)

OWNER = """
    import sys, time
    from engine.broker import EmbeddedBroker
    with EmbeddedBroker(sys.argv[1]) as broker:
        try:
            print(broker.pid, broker.bootstrap, flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(0.5)
            print(broker.running, flush=True)
"""


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition is true; return False if it still isn't after `GONE_S`."""
    deadline_s = time.monotonic() + GONE_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


def wait_gone(pid: int) -> bool:
    """Wait until a process has ended."""
    return wait_until(lambda: not psutil.pid_exists(pid))


@contextmanager
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a broker in another process, which prints at Ctrl-C whether it still runs; yield the process and the broker's pid."""
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split()[0])
    finally:
        process.kill()
        process.wait()


def one_line(error: pytest.ExceptionInfo[OperatorError]) -> str:
    """Return the message of an error, which must be one line."""
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def children() -> set[int]:
    """Return the ids of all descendants of this process."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_broker_starts_in_time_and_stops_without_leaving_a_process(broker_folder: Path) -> None:
    started_s, others = time.monotonic(), children()
    with EmbeddedBroker(broker_folder) as broker:
        assert time.monotonic() - started_s < WARM_START_S
        assert broker.running
        assert bootstrap_of(broker_folder) == broker.bootstrap
        pids = {broker.pid} | children() - others
        host, port = broker.bootstrap.split(":")
        listening = {
            each.laddr for each in psutil.Process(broker.pid).net_connections("tcp") if each.status == "LISTEN"
        }
        assert {address.ip.removeprefix("::ffff:") for address in listening} == {host}
        assert int(port) in {address.port for address in listening}
    assert not broker.running
    assert all(wait_gone(pid) for pid in pids)
    assert bootstrap_of(broker_folder) is None
    assert "shutdown" in broker.log.read_text().lower()


def write(bootstrap: str, topic: str, values: list[bytes], timeout_s: float = 20.0) -> int:
    """Produce with librdkafka; return how many values were acknowledged in time."""
    acknowledged: list[bool] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: acknowledged.append(error is None))
    producer.flush(timeout_s)
    return sum(acknowledged)


def test_records_survive_a_stop_and_a_kill(broker_folder: Path) -> None:
    broker = EmbeddedBroker(broker_folder)
    broker.start()
    bootstrap = broker.bootstrap
    connections, *_ = contracts("", 1, -1, 1)
    asyncio.run(ensure(bootstrap, [connections], {}))
    assert write(bootstrap, "connections", [b"one"]) == 1
    broker.stop()
    broker.start()
    assert write(bootstrap, "connections", [b"two"]) == 1
    broker.kill()
    assert not broker.running
    broker.start()
    assert broker.bootstrap == bootstrap
    read = run_tool(
        "consumer.ConsoleConsumer",
        *("--bootstrap-server", bootstrap, "--topic", "connections", "--from-beginning", "--max-messages", "2"),
    )
    broker.stop()
    assert read.split() == ["one", "two"]


def test_kafkas_own_tools_work(broker: EmbeddedBroker, prefix: str) -> None:
    cluster, topic = ("--bootstrap-server", broker.bootstrap), prefix + "tools"
    run_tool("TopicCommand", *cluster, "--create", "--topic", topic, "--partitions", "2")
    lines = [f"line {number}" for number in range(100)]
    run_tool("ConsoleProducer", *cluster, "--topic", topic, given="\n".join(lines) + "\n")
    read = run_tool("consumer.ConsoleConsumer", *cluster, "--topic", topic, "--from-beginning", "--max-messages", "100")
    assert sorted(read.splitlines()) == sorted(lines)
    ends = [line.split(":") for line in run_tool("GetOffsetShell", *cluster, "--topic", topic).split()]
    assert sum(int(end) for _, _, end in ends) == 100
    measured = run_tool("ConsumerPerformance", *cluster, "--topic", topic, "--messages", "100", "--hide-header")
    assert int(measured.splitlines()[-1].split(", ")[4]) == 100


def test_topics_are_not_created_implicitly(broker: EmbeddedBroker, prefix: str) -> None:
    cluster = ("--bootstrap-server", broker.bootstrap)
    with pytest.raises(AssertionError):
        run_tool("GetOffsetShell", *cluster, "--topic", prefix + "nowhere")
    assert prefix not in run_tool("TopicCommand", *cluster, "--list")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_broker_ends_with_its_process(broker_folder: Path, number: signal.Signals) -> None:
    with owner(broker_folder) as (process, pid):
        assert psutil.pid_exists(pid)
        process.send_signal(number)
        process.wait()
        assert wait_gone(pid)
    with EmbeddedBroker(broker_folder) as broker:
        assert broker.running


def test_broker_ends_with_its_lifeline(broker_folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent")
    with EmbeddedBroker(broker_folder) as broker:
        pid = broker.pid
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        assert wait_gone(pid)
        assert not broker.running


def test_ctrl_c_reaches_the_parent_first_and_the_broker_stops_in_order(broker_folder: Path) -> None:
    with owner(broker_folder) as (process, pid):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process of the foreground group
        output, _ = process.communicate(timeout=scaled(30))
        assert process.returncode == 0
        assert output.split() == ["True"]
        assert wait_gone(pid)
    assert (broker_folder / "kafka" / ".kafka_cleanshutdown").exists()


def test_suspended_broker_is_killed_after_the_grace(broker_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.broker.broker.STOP_GRACE_S", 0.5)
    broker = EmbeddedBroker(broker_folder)
    broker.start()
    pid = broker.pid
    os.kill(pid, signal.SIGSTOP)
    broker.stop()
    assert wait_gone(pid)


def test_broker_that_died_is_reported(broker_folder: Path) -> None:
    with EmbeddedBroker(broker_folder) as broker:
        broker.check()
        os.kill(broker.pid, signal.SIGKILL)
        assert wait_until(lambda: not broker.running)
        with pytest.raises(OperatorError, match="the embedded Kafka has stopped: ") as raised:
            broker.check()
        assert str(broker.log) in one_line(raised)


def test_port_in_use_is_a_one_line_error(broker_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port} on 127.0.0.1 .*choose another") as raised:
            EmbeddedBroker(broker_folder, port).start()
    one_line(raised)
    with EmbeddedBroker(broker_folder, port) as broker:
        assert broker.bootstrap == f"127.0.0.1:{port}"


def test_unwritable_folder_is_a_one_line_error(kafka_cache: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"can't be written .*choose another folder") as raised:
        EmbeddedBroker(tmp_path / "file" / "broker").start()
    one_line(raised)


def test_folder_in_use_is_an_error_that_names_the_process(broker: EmbeddedBroker) -> None:
    with pytest.raises(OperatorError, match=f"in use by process {os.getpid()} .*{broker.bootstrap}") as raised:
        EmbeddedBroker(broker.data_dir).start()
    one_line(raised)
    assert broker.running


def test_data_of_another_format_is_an_error(broker_folder: Path) -> None:
    (broker_folder / "kafka").mkdir(parents=True)
    meta = broker_folder / "kafka" / "meta.properties"
    meta.write_text("version=0\nbroker.id=0\ncluster.id=abc\n")
    with pytest.raises(OperatorError, match=r"another kind of broker \(version=0, node.id=missing") as raised:
        EmbeddedBroker(broker_folder).start()
    one_line(raised)
    meta.unlink()
    (broker_folder / "kafka" / "topic-0").mkdir()
    (broker_folder / "kafka" / "topic-0" / "00000000000000000000.log").write_text("")
    with pytest.raises(OperatorError, match=r"no meta\.properties"):
        EmbeddedBroker(broker_folder).start()


def test_invalid_setting_is_an_error_with_kafkas_message(broker_folder: Path) -> None:
    with pytest.raises(OperatorError, match=r"can't be formatted: .*num\.io\.threads") as raised:
        EmbeddedBroker(broker_folder, settings={"num.io.threads": "many"}).start()
    one_line(raised)


@contextmanager
def little_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a file system of that size on a folder; skip if this user may not."""
    folder.mkdir()
    size = f"size={size_mb}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_too_little_space_is_a_one_line_error(kafka_cache: None, tmp_path: Path) -> None:
    with little_disk(tmp_path / "disk", 16) as disk, pytest.raises(OperatorError, match="free some") as raised:
        EmbeddedBroker(disk / "broker").start()
    one_line(raised)


def test_full_disk_is_reported(kafka_cache: None, tmp_path: Path) -> None:
    with little_disk(tmp_path / "disk", 160) as disk, EmbeddedBroker(disk / "broker") as broker:
        connections, *_ = contracts("", 1, -1, 1)
        asyncio.run(ensure(broker.bootstrap, [connections], {}))
        with (disk / "others").open("wb") as file:
            file.write(bytes(shutil.disk_usage(disk).free - 200_000))
        assert write(broker.bootstrap, "connections", [bytes(1000)] * 1000, timeout_s=2.0) < 1000
        assert wait_until(lambda: not broker.running)
        with pytest.raises(OperatorError, match=r"has stopped: .*[Nn]o space left .*free some") as raised:
            broker.check()
        one_line(raised)


def test_lock_file_is_json_with_the_owner(broker: EmbeddedBroker) -> None:
    written = json.loads((broker.data_dir / "broker.lock").read_text())
    assert written == {"pid": os.getpid(), "bootstrap": broker.bootstrap}
