"""The model's cost by part, small: every population gives the right answer, and the last line is what it promises."""

from __future__ import annotations

import subprocess
import sys

import orjson

from benchmarks.detection import model_cost
from benchmarks.harness.results import latest
from tests.conftest import ROOT


def test_a_small_run_answers_right_and_names_each_part() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.detection.model_cost",
        "--keys",
        "500",
        "2000",
        "--events",
        "20000",
        "--rounds",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    last = orjson.loads(done.stdout.splitlines()[-1])
    assert last["answer"] == "right"
    assert list(last["us_an_event"]) == ["500", "2000"]
    assert set(last["us_an_event"]["500"]) == set(model_cost.PARTS)
    assert last["us_an_event"]["500"]["a newcomer's event, all in all"] > 0


def test_an_event_that_was_not_counted_is_a_wrong_answer() -> None:
    columns = model_cost.events(500, 5000, 1)
    assert model_cost.run("newcomers", 500, columns)[1] == []
    columns.status[7] = 2
    assert model_cost.run("newcomers", 500, columns)[1] == [
        "newcomers: 4,999 events, wanted 5,000",
        "newcomers: 4,999 accepted, wanted 5,000",
    ]


def test_the_table_in_the_page_is_that_of_the_last_result() -> None:
    kept = latest(model_cost.KEPT)
    assert kept is not None
    _, between, _ = model_cost.PART.split(model_cost.PAGE.read_text(encoding="utf-8"))
    assert between == model_cost.text(kept), "run `make bench-model ARGS=--keep`"
