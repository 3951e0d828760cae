"""The look-up benchmark, small: it runs, its answers are right, and its last line is the object that it promises."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from tests.conftest import ROOT

PROMISED = {"lookups_per_s_16", "ratio_redis_16", "ratio_redis_64", "policy_p99_ms_16", "rss_mb_1m_decisions"}


@pytest.mark.timeout(240)
def test_a_small_run_gives_right_answers() -> None:
    command = [sys.executable, "-m", "benchmarks.edge.lookups", "--small"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230, check=False)
    if "can't be had" in ran.stderr:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = orjson.loads(ran.stdout.splitlines()[-1])
    assert all(figures[name] > 0 for name in PROMISED)
