"""The supervisor of an edge's processes restarts those that die, and stops all of them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.support.pace import scaled

WAIT_S = scaled(15)
PROGRAM = """
import os, select, signal, sys
from pathlib import Path
from engine.edge import prefork
from topics.errors import OperatorError

prefork.RESTART_DELAY_S = 0.05
folder, misuse = Path(sys.argv[1]), sys.argv[2:]
try:
    slot = prefork.Supervisor(2).run()
except OperatorError as error:
    sys.exit(f"refused: {error}")
if slot is None:
    sys.exit(0)
if str(slot.number) in misuse:
    sys.exit(2)
stopped, stop = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(stop, b"x"))
(folder / f"{slot.number}-{os.getpid()}").touch()
select.select([stopped, slot.supervisor_fd], [], [])
(folder / f"ended-{os.getpid()}").touch()
"""


@contextmanager
def supervisor(folder: Path, *misuse: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(folder), *map(str, misuse)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(wanted: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not wanted():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def started(folder: Path, number: int) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob(f"{number}-*")]


def test_dead_process_is_restarted_and_a_signal_stops_all(tmp_path: Path) -> None:
    with supervisor(tmp_path) as process:
        wait_until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        (first,) = started(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(started(tmp_path, 1)) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
        assert process.stderr
        assert f"process 1 of 2 (pid {first}) ended by signal 9" in process.stderr.read()
    living = {*started(tmp_path, 1), *started(tmp_path, 2)} - {first}
    assert {path.name for path in tmp_path.glob("ended-*")} == {f"ended-{number}" for number in living}


def test_misused_process_is_not_restarted_and_all_stop(tmp_path: Path) -> None:
    with supervisor(tmp_path, 2) as process:
        assert process.wait(WAIT_S) == 1
        assert process.stderr
        assert process.stderr.read() == "refused: process 2 of the edge can't run, for the reason above\n"


def test_death_of_the_supervisor_stops_all(tmp_path: Path) -> None:
    with supervisor(tmp_path) as process:
        wait_until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        process.kill()
        wait_until(lambda: len(list(tmp_path.glob("ended-*"))) == 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_stop_signal_is_forwarded(tmp_path: Path, number: signal.Signals) -> None:
    with supervisor(tmp_path) as process:
        wait_until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
    assert not any(map(psutil.pid_exists, started(tmp_path, 1) + started(tmp_path, 2)))
