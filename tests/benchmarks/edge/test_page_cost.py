"""The benchmark of metrics and page runs, and its answers are right; what it measures is for a quiet machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.edge import page_cost as watching
from tests.support.browsing import BROWSERS

pytestmark = pytest.mark.timeout(240)


def test_a_small_run_gives_right_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    browser = shutil.which(BROWSERS[0]) is not None
    minutes = [] if browser else ["--browser-minutes", "0"]
    assert watching.main(["--small", "--screens", str(tmp_path), *minutes]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    if browser:
        assert 0.5 < figures["page_heap_growth"] < 2.0
        assert figures["page"]["decisions"][1] > figures["page"]["decisions"][0] >= 200
        assert len(list(tmp_path.glob("*.png"))) == 4
    assert figures["answer"] == "right"
    assert set(figures["first_view_s"]) == {"p50", "most"}
    assert len(figures["ratio_by_round"]) == 1
