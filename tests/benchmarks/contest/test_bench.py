"""The contest, small: right answers, kept results, pages of the latest result.

Contenders that need a download are run by `make bench ARGS=--small`; all parts together are run at night.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from benchmarks.contest import bench, plots, tables
from benchmarks.contest.contenders import BY_NAME, CONFLUENT, ENTRIES
from benchmarks.contest.figures import SHORT_NAMES, Outcome, last_line, whole
from benchmarks.contest.rounds import ENGINE, TOOL
from benchmarks.contest.scaling import kinds
from benchmarks.contest.sizes import KEPT, SMALL
from benchmarks.harness.results import GeneratedPart
from benchmarks.peers import maven
from engine.broker import EmbeddedBroker

PROMISED = {
    "ratio_perf_tool_lz4", "ratio_stock_faust", "ratio_quix", "ratio_kafka_streams", "ratio_flink",
    "cpu_ratio_kafka_streams", "cpu_ratio_flink", "sustainable_events_per_s", "decision_p99_ms", "table_bytes_per_key",
}  # fmt: skip
MEASURED = {"ratio_perf_tool_lz4", "ratio_confluent_loop", "decision_p99_ms"}


@pytest.mark.system
def test_engine_tool_and_plain_loop_give_right_answers(broker: EmbeddedBroker, tmp_path: Path) -> None:
    sizes = replace(SMALL, parts=("throughput",), events=30_000, keys=500, peers=(CONFLUENT,))

    outcome = bench.measure_parts(sizes, broker.bootstrap, tmp_path)

    assert outcome.wrong == []
    assert outcome.cases[0].runs.keys() == {ENGINE, TOOL, CONFLUENT}
    assert last_line(outcome)["ratio_confluent_loop"] > 0


@pytest.mark.nightly
@pytest.mark.system
@pytest.mark.timeout(400)
def test_small_contest_is_right_and_keeps_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, alone = tmp_path / "kept.ndjson", ["--peers", CONFLUENT, "--open-peers", CONFLUENT]
    parts = ["--parts", "throughput", "open", "recovery"]

    assert bench.main(["--small", *parts, *alone, "--results", str(kept)]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["answer"] == "right"
    assert figures.keys() >= PROMISED
    assert all(figures[name] > 0 for name in MEASURED)
    (result,) = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    assert result["figures"] == figures
    outcome = Outcome.from_dict(result)
    assert Outcome.from_dict(orjson.loads(orjson.dumps(outcome.as_dict()))) == outcome
    assert outcome.cases[0].runs.keys() == {ENGINE, TOOL, CONFLUENT}
    assert {each.name for each in outcome.recoveries} == {ENGINE, CONFLUENT}
    assert f"\n| {CONFLUENT} |" in "\n".join(tables.lines(result))
    drawn = plots.draw(outcome, outcome.cases[0].case.name, tmp_path / "plots")
    assert {plots.RATES, plots.COSTS} <= {path.name for path in drawn}
    for path in drawn:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


@pytest.mark.nightly
@pytest.mark.system
@pytest.mark.timeout(400)
def test_many_senders_and_several_workers_are_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.ndjson"

    assert bench.main(["--small", "--parts", "keys", "scaling", "--results", str(kept)]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["answer"] == "right"
    assert {"cost_ratio_5k_500", "kernel_ratio_5k_500", "rss_bytes_per_key_5k"} <= figures.keys()
    (result,) = [orjson.loads(line) for line in kept.read_bytes().splitlines()]
    outcome = Outcome.from_dict(result)
    assert [each.keys for each in outcome.key_costs] == [500, 5_000]
    assert all(min(each.events, each.cpu_s_per_million, each.kernel_us) > 0 for each in outcome.key_costs)
    assert [each.kind for each in outcome.scaled] == kinds(os.cpu_count() or 1)
    assert all(sum(each.shares) >= result["sizes"]["scaling_events"] for each in outcome.scaled)
    assert "\n| 5,000 |" in "\n".join(tables.lines(result))


@pytest.mark.parametrize("bad", [["--rounds", "none"], ["--peers", "nobody"], ["--parts", "all"]])
def test_wrong_option_is_refused(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(bad)

    assert ended.value.code == 2
    assert f"error: argument {bad[0]}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("path", "part"), [(tables.PAGE, tables.PART), (tables.FRONT, tables.SUMMARY)])
def test_page_is_that_of_the_latest_result(path: Path, part: GeneratedPart) -> None:
    kept = whole(KEPT)

    _, between, _ = part.split(path.read_text(encoding="utf-8"))

    assert between == tables.between(part, kept), "run `python -m benchmarks.contest.tables`"


def test_every_contender_has_a_name_for_its_figures() -> None:
    assert {entry.name for entry in ENTRIES} | {TOOL} == set(SHORT_NAMES)
    assert set(BY_NAME) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("name", maven.WANTED)
def test_lock_of_jars_has_the_wanted_ones(name: str) -> None:
    pinned = maven.pinned(name)

    assert set(maven.WANTED[name]) <= {jar.coordinate for jar in pinned}
    assert all(len(jar.sha256) == 64 for jar in pinned)
