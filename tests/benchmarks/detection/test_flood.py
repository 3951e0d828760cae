"""The flood benchmark, small: its answers are right, and its last line is the object that it promises."""

from __future__ import annotations

import subprocess
import sys

import orjson

from tests.conftest import ROOT


def test_a_small_flood_leaves_memory_flat_and_regulars_in_place_and_names_its_prefix() -> None:
    command = [sys.executable, "-m", "benchmarks.detection.flood", "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert figures["answer"] == "right"
    assert figures["announced"] > figures["slots"] * figures["bytes_a_slot"]
    one, several, v4, twice = figures["floods"]
    assert (one["prefix_decisions"], several["prefix_decisions"]) == ({"/32": 1}, {"/32": 8})
    assert v4["prefix_decisions"] == {"/16": 256}
    assert twice["prefix_decisions"] == {}
    assert twice["evicted"] > figures["slots"]
    assert all(flood["regulars_kept"] == flood["regulars"] > 0 for flood in figures["floods"])
