"""The parent of an edge's processes: whom it starts again, and when everybody ends."""

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

prefork.AGAIN_S = 0.05
folder, misuse = Path(sys.argv[1]), sys.argv[2:]
try:
    seat = prefork.Supervisor(2).run()
except OperatorError as error:
    sys.exit(f"refused: {error}")
if seat is None:
    sys.exit(0)
if str(seat.number) in misuse:
    sys.exit(2)
gone, told = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(told, b"x"))
(folder / f"{seat.number}-{os.getpid()}").touch()
select.select([gone, seat.parent], [], [])
(folder / f"ended-{os.getpid()}").touch()
"""


@contextmanager
def parent(folder: Path, *misuse: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(folder), *map(str, misuse)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(wanted: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not wanted():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def started(folder: Path, number: int) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob(f"{number}-*")]


def test_who_dies_is_started_again_and_all_end_when_told(tmp_path: Path) -> None:
    with parent(tmp_path) as process:
        until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        (first,) = started(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(started(tmp_path, 1)) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
        assert process.stderr
        assert f"process 1 of 2, {first}, ended by signal 9" in process.stderr.read()
    living = {*started(tmp_path, 1), *started(tmp_path, 2)} - {first}
    assert {path.name for path in tmp_path.glob("ended-*")} == {f"ended-{number}" for number in living}


def test_who_can_not_run_is_not_tried_again_and_all_end(tmp_path: Path) -> None:
    with parent(tmp_path, 2) as process:
        assert process.wait(WAIT_S) == 1
        assert process.stderr
        assert process.stderr.read() == "refused: process 2 of the edge can't run, for the reason above\n"


def test_without_a_parent_the_others_end(tmp_path: Path) -> None:
    with parent(tmp_path) as process:
        until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        process.kill()
        until(lambda: len(list(tmp_path.glob("ended-*"))) == 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_every_signal_that_ends_is_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    with parent(tmp_path) as process:
        until(lambda: len(started(tmp_path, 1)) == len(started(tmp_path, 2)) == 1)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
    assert not any(map(psutil.pid_exists, started(tmp_path, 1) + started(tmp_path, 2)))
