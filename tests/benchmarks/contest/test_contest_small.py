"""The contest, small, with the contenders that need no download: it runs, its answers are right, it says what it promises.

The others' answers are checked by `make bench ARGS=--small`."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import orjson
import pytest
from benchmarks.contest.kept import whole

from benchmarks.contest import plots, tables
from benchmarks.contest.contenders import BY_NAME, CONFLUENT, ENTRIES
from benchmarks.contest.figures import SHORT_NAMES, Outcome
from benchmarks.contest.rounds import ENGINE, TOOL
from benchmarks.contest.scaling import kinds
from benchmarks.contest.sizes import KEPT
from benchmarks.peers import maven
from tests.conftest import ROOT

BENCH = ROOT / "benchmarks" / "contest" / "bench.py"
PROMISED = {
    "ratio_perf_tool_lz4",
    "ratio_stock_faust",
    "ratio_quix",
    "ratio_kafka_streams",
    "ratio_flink",
    "cpu_ratio_kafka_streams",
    "cpu_ratio_flink",
    "sustainable_events_per_s",
    "decision_p99_ms",
    "table_octets_per_key",
}
MEASURED = {"ratio_perf_tool_lz4", "ratio_confluent_loop", "decision_p99_ms"}


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=340, check=False)


@pytest.mark.system
@pytest.mark.timeout(400)
def test_a_small_contest_gives_right_answers_and_keeps_its_result(tmp_path: Path) -> None:
    kept, alone = tmp_path / "kept.ndjson", ["--peers", CONFLUENT, "--open-peers", CONFLUENT]
    parts = ["--parts", "throughput", "open", "recovery"]
    done = bench(tmp_path, "--small", *parts, *alone, "--results", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert figures["answer"] == "right"
    assert figures.keys() >= PROMISED
    assert all(figures[name] > 0 for name in MEASURED)
    (result,) = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    assert result["figures"] == figures
    outcome = Outcome.from_dict(result)
    assert Outcome.from_dict(orjson.loads(orjson.dumps(outcome.as_dict()))) == outcome
    assert outcome.cases[0].runs.keys() == {ENGINE, TOOL, CONFLUENT}
    assert {each.name for each in outcome.recoveries} == {ENGINE, CONFLUENT}
    said = "\n".join(tables.lines(result))
    assert f"\n| {CONFLUENT} |" in said
    drawn = plots.draw(outcome, outcome.cases[0].case.name, tmp_path / "plots")
    assert {plots.RATES, plots.COSTS} <= {path.name for path in drawn}
    for path in drawn:
        assert ET.parse(path).getroot().tag.endswith("svg")


@pytest.mark.system
@pytest.mark.timeout(400)
def test_many_senders_and_several_workers_give_right_answers(tmp_path: Path) -> None:
    kept = tmp_path / "kept.ndjson"
    done = bench(tmp_path, "--small", "--parts", "keys", "scaling", "--results", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = orjson.loads(done.stdout.splitlines()[-1])
    assert figures["answer"] == "right"
    assert {"cost_ratio_5k_500", "kernel_ratio_5k_500", "rss_octets_per_key_5k"} <= figures.keys()
    (result,) = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    outcome = Outcome.from_dict(result)
    assert [each.keys for each in outcome.key_costs] == [500, 5_000]
    assert all(min(each.events, each.cpu_s_per_million, each.kernel_us) > 0 for each in outcome.key_costs)
    assert [each.kind for each in outcome.scaled] == kinds(os.cpu_count() or 1)
    assert all(sum(each.shares) >= result["sizes"]["scaling_events"] for each in outcome.scaled)
    assert "\n| 5,000 |" in "\n".join(tables.lines(result))


@pytest.mark.parametrize("bad", [["--rounds", "none"], ["--peers", "nobody"], ["--parts", "all"]])
def test_a_wrong_option_is_refused(tmp_path: Path, bad: list[str]) -> None:
    done = bench(tmp_path, *bad)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("benchmarks/contest/bench.py: error:")


def test_pages_and_plots_are_those_of_the_last_result() -> None:
    kept = whole(KEPT)
    for path, part in ((tables.PAGE, tables.PART), (tables.FRONT, tables.SUMMARY)):
        _, between, _ = part.split(path.read_text(encoding="utf-8"))
        if kept is None:
            assert "No full run has been kept yet" in between
        else:
            assert between == tables.between(part, kept)


def test_every_contender_has_a_name_for_its_figures() -> None:
    assert {entry.name for entry in ENTRIES} | {TOOL} == set(SHORT_NAMES)
    assert set(BY_NAME) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("name", maven.WANTED)
def test_the_locks_of_jars_hold_what_is_wanted(name: str) -> None:
    assert set(maven.WANTED[name]) <= {jar.coordinate for jar in maven.pinned(name)}
    assert all(len(jar.sha256) == 64 for jar in maven.pinned(name))
