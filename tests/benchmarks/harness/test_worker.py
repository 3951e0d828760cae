"""How runs of the engine are observed and judged."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.answers import differences
from benchmarks.harness.worker import bytes_per_key, covered_s
from tests.conftest import ROOT

START = """
import os, pathlib, sys
from benchmarks.harness.worker import Worker
with Worker({**os.environ, "TIDEGATE_KAFKA_BOOTSTRAP": sys.argv[1]}, pathlib.Path(sys.argv[2])) as worker:
    print(worker.process.pid, flush=True)
    input()
"""


@pytest.mark.parametrize(
    ("spans", "seconds"), [([], 0), ([(1, 2)], 1), ([(1, 3), (2, 4)], 3), ([(5, 6), (1, 4), (2, 3)], 4)]
)
def test_seconds_of_overlapping_spans_count_once(spans: list[tuple[float, float]], seconds: float) -> None:
    assert covered_s(spans) == seconds


def test_missing_repeated_and_changed_decisions_are_one_complaint() -> None:
    one, two = (b"192.0.2.1/32", b"{1}"), (b"192.0.2.2/32", b"{2}")

    assert differences(Counter([one, two]), Counter([two, one])) == []
    for got in ([one], [one, two, two], [one, (b"192.0.2.2/32", b"{3}")]):
        assert len(differences(Counter(got), Counter([one, two]))) == 1


def test_run_without_any_decision_is_a_complaint() -> None:
    assert differences(Counter(), Counter()) != []


def test_full_table_takes_at_most_128_bytes_per_key() -> None:
    assert bytes_per_key() <= 128


def test_worker_ends_when_its_benchmark_is_killed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a worker waits half a minute for its reply
        command = [sys.executable, "-c", START, f"127.0.0.1:{silent.getsockname()[1]}", str(tmp_path)]
        benchmark = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with benchmark:
            assert benchmark.stdout is not None
            worker = psutil.Process(int(benchmark.stdout.readline()))
            asking, _ = silent.accept()
            benchmark.kill()
        with asking, contextlib.suppress(psutil.NoSuchProcess):
            worker.wait(15)
