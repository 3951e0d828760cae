"""The soak, small: answers stay right among slow and mad clients, who are cut off, and idle ones stay."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from tests.conftest import ROOT


@pytest.mark.timeout(180)
def test_a_small_soak_cuts_off_the_slow_and_loses_nobody_else() -> None:
    command = [sys.executable, "-m", "benchmarks.edge.soak", "--small"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = orjson.loads(ran.stdout.splitlines()[-1])
    assert figures["idle_lost"] == 0
    assert figures["cut_off"] > 50
    assert figures["garbage"] > 5
    assert figures["answers"] > 1000
    assert figures["rss_growth"] < 1.5
