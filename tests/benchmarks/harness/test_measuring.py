"""What the benchmarks measure with: input that repeats, answers that are compared, times that are added up right."""

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
from benchmarks.harness.report import Target, spread
from benchmarks.harness.worker import covered_s, octets_per_key
from benchmarks.harness.workload import CHUNK_EVENTS, Workload
from tests.conftest import ROOT
from topics.events import parse_event
from topics.keys import key_of

EVENTS = 2 * CHUNK_EVENTS + 100
SMALL = Workload(EVENTS, 500)


def lines(workload: Workload) -> list[bytes]:
    return b"".join(workload.chunks()).splitlines()


def test_a_workload_is_the_same_each_time_and_another_with_another_seed() -> None:
    assert lines(SMALL) == lines(Workload(EVENTS, 500)) != lines(Workload(EVENTS, 500, seed=2))


def test_a_workload_has_its_events_of_its_senders_about_150_octets_each() -> None:
    found = lines(SMALL)
    events = [parse_event(line) for line in found]
    assert len(events) == EVENTS
    assert {key_of(event.ip) for event in events} == {int(key) for key in SMALL.senders}
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    assert 140 < sum(map(len, found)) / EVENTS < 160


def test_sessions_and_helos_differ_from_event_to_event() -> None:
    assert len({line.partition(b"session")[2] for line in lines(SMALL)}) == EVENTS


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0), ([(1, 2)], 1), ([(1, 3), (2, 4)], 3), ([(5, 6), (1, 4), (2, 3)], 4)],
)
def test_time_covered_by_several_spans_counts_once(spans: list[tuple[float, float]], seconds: float) -> None:
    assert covered_s(spans) == seconds


def test_decisions_that_are_missing_doubled_or_others_are_told() -> None:
    one, two = (b"192.0.2.1/32", b"{1}"), (b"192.0.2.2/32", b"{2}")
    assert differences(Counter([one, two]), Counter([two, one])) == []
    for got in ([one], [one, two, two], [one, (b"192.0.2.2/32", b"{3}")]):
        assert len(differences(Counter(got), Counter([one, two]))) == 1


def test_no_decisions_at_all_prove_nothing() -> None:
    assert differences(Counter(), Counter()) != []


def test_a_target_is_kept_at_its_bound() -> None:
    assert Target("rate", 1.0, 1.0, at_least=True).kept
    assert Target("rate", 1.0, 1.0, at_least=False).kept
    assert not Target("rate", 0.9, 1.0, at_least=True).kept


def test_a_spread_names_median_least_and_most() -> None:
    assert spread([3e6, 1e6, 2e6], 1e6, 1) == "2.0 (1.0–3.0)"


def test_a_full_table_takes_128_octets_a_key() -> None:
    table, _ = octets_per_key()
    assert table <= 128


START = """
import os, pathlib, sys
from benchmarks.harness.worker import Worker
with Worker({**os.environ, "TIDEGATE_KAFKA_BOOTSTRAP": sys.argv[1]}, pathlib.Path(sys.argv[2])) as worker:
    print(worker.process.pid, flush=True)
    input()
"""


def test_a_worker_ends_with_its_benchmark_even_if_that_is_killed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a worker waits for its answer for half a minute
        command = [sys.executable, "-c", START, f"127.0.0.1:{silent.getsockname()[1]}", str(tmp_path)]
        benchmark = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with benchmark:
            assert benchmark.stdout is not None
            worker = psutil.Process(int(benchmark.stdout.readline()))
            asking, _ = silent.accept()
            benchmark.kill()
        with asking, contextlib.suppress(psutil.NoSuchProcess):
            worker.wait(15)
