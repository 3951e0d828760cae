"""The pipeline benchmark, small: it runs, its answers are right, and its last line is the object that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.tables import text
from tests.conftest import ROOT

PROMISED = {
    "events_per_s_lz4",
    "events_per_s_none",
    "ratio_perf_tool_lz4",
    "ratio_perf_tool_none",
    "ratio_stock_faust",
    "cpu_s_per_million",
    "event_to_decision_p99_ms",
    "table_bytes_per_key",
}

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_small_run_gives_right_answers_and_keeps_its_result(tmp_path: Path) -> None:
    kept = tmp_path / "kept.ndjson"
    command = [sys.executable, str(ROOT / "benchmarks" / "pipeline.py"), "--small", "--results", str(kept)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert figures["answer"] == "right"
    assert all(figures[name] > 0 for name in PROMISED)
    (result,) = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    assert result["figures"] == figures
    assert [case["case"] for case in result["cases"]] == ["2k-lz4", "2k-none"]
    for case in result["cases"]:
        assert f"\n| {case['case']} |" in text(result)


def test_a_size_that_is_no_number_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "pipeline.py"), "--rounds", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("invalid int value: 'none'")
