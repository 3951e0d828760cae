"""The evaluation: pages, scores, causality, and ablations that change something."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.detection import ablation, evaluation_tables, traces
from benchmarks.detection.evaluate import HEADLINE, Evaluation, Setting
from benchmarks.harness import results
from benchmarks.harness.errors import WrongAnswer
from engine.config.load import load_settings
from engine.detector import constants


@pytest.mark.parametrize(
    ("page", "name"), evaluation_tables.PAGES.items(), ids=lambda found: getattr(found, "name", found)
)
def test_pages_have_the_latest_full_result(page: Path, name: str) -> None:
    _, between, _ = evaluation_tables.PART.split(page.read_text(encoding="utf-8"))
    assert between == evaluation_tables.text(name, results.latest(evaluation_tables.KEPT)), (
        "run `python -m benchmarks.detection.evaluation_tables`"
    )


@pytest.mark.parametrize("variant", ablation.VARIANTS)
def test_variant_changes_existing_constants_and_keeps_their_type(variant: str) -> None:
    changes = ablation.VARIANTS[variant]()

    assert changes
    for name, value in changes.items():
        assert type(getattr(constants, name)) is type(value)
    assert any(getattr(constants, name) != value for name, value in changes.items())


@pytest.fixture
def one_trace(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setenv("TIDEGATE_SHARED", str(shared))
    return Evaluation(tmp_path, True, [trace for trace in traces.traces() if trace.name == "dev-kdent"])


def test_real_log_is_scored_with_each_delay(one_trace: Evaluation) -> None:
    prompt, late = one_trace.rows(Setting(0.5, 4, delays_ms=(0, 600_000)))

    assert set(HEADLINE) <= prompt.keys()
    assert 0 < prompt["attack_admitted"] < late["attack_admitted"] < 1
    assert sum(kind[0] for kind in prompt["kinds"].values()) == 7


def test_five_times_the_messages_are_scored_as_such(one_trace: Evaluation) -> None:
    (plain,), (loud,) = (one_trace.rows(Setting(0.5, 4, volume)) for volume in (1, 5))

    assert loud["volume"] == 5
    assert loud["attack_admitted"] < plain["attack_admitted"]


def test_foresight_ends_the_run(one_trace: Evaluation, tmp_path: Path) -> None:
    trace, settings = one_trace.known[0], load_settings(None, {}, {})
    lines = traces.replayed(trace.events, settings)
    assert "the same in both" in traces.check_causality(trace, lines, settings, tmp_path)
    with pytest.raises(WrongAnswer, match=r"causal\.py compare"):
        traces.check_causality(trace, lines[1:], settings, tmp_path)
