"""The model's cost by part: every population gives the right answer, and the page shows the latest result."""

from __future__ import annotations

import orjson
import pytest

from benchmarks.detection import model_cost
from benchmarks.harness.results import latest


def test_small_run_is_right_and_has_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_cost.main(["--keys", "500", "2000", "--events", "20000", "--rounds", "1"]) == 0

    last = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["answer"] == "right"
    assert list(last["us_an_event"]) == ["500", "2000"]
    assert set(last["us_an_event"]["500"]) == set(model_cost.PARTS)
    assert last["us_an_event"]["500"]["a newcomer's event, all in all"] > 0
    assert last["populations"]["2000"]["young"]["us_an_event"] > 0


@pytest.mark.parametrize("population", model_cost.POPULATIONS)
def test_event_that_is_not_counted_is_a_wrong_answer(population: str) -> None:
    events = model_cost.events(500, 5000, 1)
    before = model_cost.run(population, events).complaints

    events.columns.status[7] = 2
    after = model_cost.run(population, events).complaints

    assert before == []
    assert after == [f"{population}: 4,999 events, wanted 5,000", f"{population}: 4,999 accepted, wanted 5,000"]


def test_table_in_the_page_is_that_of_the_latest_result() -> None:
    kept = latest(model_cost.KEPT)

    assert kept is not None
    _, between, _ = model_cost.PART.split(model_cost.PAGE.read_text(encoding="utf-8"))
    assert between == model_cost.text(kept), "run `make bench-model ARGS=--keep`"
