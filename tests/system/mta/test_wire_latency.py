"""A small run of the benchmark from event to 451 on the wire: each sender gets the whole reply, and the last line is valid."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from tests.conftest import ROOT


@pytest.mark.mta
@pytest.mark.timeout(240)
def test_small_run_measures_each_451() -> None:
    command = [sys.executable, "-m", "benchmarks.edge.wire_latency", "--small"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230, check=False)
    if "is not available" in ran.stderr or "by root" in ran.stderr:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = orjson.loads(ran.stdout.splitlines()[-1])
    assert figures["senders"] == 5
    assert 0 < figures["wire_p50_ms"] <= figures["wire_p99_ms"] <= figures["wire_most_ms"]
