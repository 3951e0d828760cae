"""The operator's benchmark, small: it runs, its answers are right, and its last line is the object that it promises."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from tests.conftest import ROOT

PROMISED = {"release_to_edge_p99_ms", "release_to_withdrawal_p99_ms", "release_command_to_edge_p50_ms"}


@pytest.mark.timeout(300)
def test_a_small_run_gives_right_answers() -> None:
    command = [sys.executable, "-m", "benchmarks.edge.override_latency", "--small"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=290, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = orjson.loads(ran.stdout.splitlines()[-1])
    assert all(figures[name] > 0 for name in PROMISED)
    assert figures["explain_verified"] == 1.0
