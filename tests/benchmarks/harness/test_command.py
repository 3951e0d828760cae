"""The command line that benchmarks share: exit status, kept results, the last line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.harness import command
from benchmarks.harness.command import Report
from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.results import Target, spread, table
from tests.conftest import ROOT
from topics.errors import OperatorError

ENTRIES = (
    "contest.bench", "contest.load", "detection.ablation", "detection.carryover", "detection.closed_loop",
    "detection.evaluate", "detection.flood", "detection.model_cost", "detection.pool_shares", "edge.lookup_load",
    "edge.lookups", "edge.override_latency", "edge.page_cost", "edge.soak", "edge.soak_clients", "edge.wire_latency",
    "faults.bench", "harness.kernel_floor",
)  # fmt: skip


def given(results: Path | None = None) -> argparse.Namespace:
    parser = command.new_parser("about", results)
    parser.add_argument("--events", type=int, default=1000)
    return command.parse(parser, {"events": 10}, [])


def report(wrong: list[str]) -> Report:
    return Report({"rate": 2}, {"runs": [1, 2]}, lambda result: [f"{result['sizes']['events']} events"], wrong=wrong)


@pytest.mark.parametrize(("wrong", "status"), [([], 0), (["lost"], 1)])
def test_run_prints_the_report_and_returns_one_for_a_wrong_answer(
    wrong: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(lambda given, folder: report(wrong), given()) == status

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1000 events"
    assert lines[1] == ("WRONG lost" if wrong else "answers: right")
    assert orjson.loads(lines[-1]) == {"rate": 2}


@pytest.mark.parametrize(("error", "status"), [(Broken, 2), (WrongAnswer, 1), (OperatorError, 2)])
def test_run_that_fails_prints_one_line(
    error: type[Exception], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(given: argparse.Namespace, folder: Path) -> Report:
        raise error("no network")

    assert command.run(fail, given()) == status

    assert capsys.readouterr() == ("", "benchmark: no network\n")


def test_result_is_kept_with_machine_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "kept.ndjson"

    command.run(lambda given, folder: report([]), given(path))

    (kept,) = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert kept.pop("machine")["cores"] > 0
    assert kept == {"sizes": {"events": 1000}, "figures": {"rate": 2}, "runs": [1, 2]}


def test_small_run_keeps_nothing_and_given_options_override_its_sizes(tmp_path: Path) -> None:
    parser = command.new_parser("about", tmp_path / "kept.ndjson")
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)

    chosen = command.parse(parser, {"events": 10, "rounds": 1}, ["--small", "--rounds", "2"])

    assert (chosen.events, chosen.rounds, chosen.results) == (10, 2, None)


def test_target_is_kept_at_its_bound() -> None:
    assert Target("rate", 1.0, 1.0, at_least=True).is_kept
    assert Target("rate", 1.0, 1.0).is_kept
    assert not Target("rate", 0.9, 1.0, at_least=True).is_kept


def test_spread_has_median_and_range() -> None:
    assert spread([3e6, 1e6, 2e6], 1e6, 1) == "2.0 (1.0–3.0)"


def test_table_aligns_numbers_after_its_texts() -> None:
    assert table("name | why | count", [["a", "b", "3"]], texts=2) == [
        "| name | why | count |", "| --- | --- | ---: |", "| a | b | 3 |",
    ]  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_shows_its_help_without_a_cache_folder(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_CACHE_DIR")

    words = [sys.executable, "-m", f"benchmarks.{entry}", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")
