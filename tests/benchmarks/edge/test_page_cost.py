"""The benchmark of metrics and page: its checks, and a small run at night; its figures need a quiet machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from benchmarks.edge import page_cost, page_growth
from benchmarks.edge.page_growth import RATES, Snapshot
from benchmarks.harness.errors import Broken, WrongAnswer
from tests.support.browsing import BROWSERS

FIRST = Snapshot(0.0, 1_000, 10, 5_000, "200", 100, 0)


def seen(*, active: int = 110, rates: int = len(RATES), top_senders: int = 3) -> list[Snapshot]:
    later = [FIRST._replace(at_s=10.0 * i, rate=str(i % rates), heap_bytes=1_000 * (1 + i // 9)) for i in range(1, 12)]
    return [
        FIRST,
        *later,
        FIRST._replace(at_s=120.0, rate="0", active=active, top_senders=top_senders, heap_bytes=2_000),
    ]


def test_page_with_changing_rates_and_more_decisions_is_right() -> None:
    page_growth.check(seen(), 100, [])


@pytest.mark.parametrize(
    ("found", "errors"),
    [(seen(active=100), []), (seen(rates=1), []), (seen(top_senders=0), []), (seen(), ["TypeError"])],
)
def test_page_that_stands_still_or_reports_errors_is_a_wrong_answer(found: list[Snapshot], errors: list[str]) -> None:
    with pytest.raises(WrongAnswer):
        page_growth.check(found, 100, errors)


def test_growth_relates_the_last_minute_to_the_second() -> None:
    second, last, ratio = page_growth.growth(seen(), "heap_bytes", 60.0)

    assert (second, round(last)) == (1_500, 1_667)
    assert ratio == pytest.approx(last / second)


def test_growth_without_snapshots_in_a_span_is_no_result() -> None:
    with pytest.raises(Broken):
        page_growth.growth([FIRST], "heap_bytes", 60.0)


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_small_run_is_right(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    has_browser = shutil.which(BROWSERS[0]) is not None
    minutes = [] if has_browser else ["--browser-minutes", "0"]

    assert page_cost.main(["--small", "--screens", str(tmp_path), *minutes]) == 0

    figures = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    if has_browser:
        assert 0.5 < figures["page_heap_growth"] < 2.0
        assert figures["page"]["decisions"][1] > figures["page"]["decisions"][0] >= 200
        assert len(list(tmp_path.glob("*.png"))) == 4
    assert figures["answer"] == "right"
    assert set(figures["first_view_s"]) == {"p50", "most"}
    assert len(figures["ratio_by_round"]) == 1
