"""The benchmark of metrics and page runs, and its answers are right; what it measures is for a quiet machine."""

from __future__ import annotations

import json

import pytest

from benchmarks import watching

pytestmark = pytest.mark.timeout(240)


def test_a_small_run_gives_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert watching.main(["--small"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["answer"] == "right"
    assert set(figures["first_view_s"]) == {"p50", "most"}
    assert len(figures["ratio_by_round"]) == 1
