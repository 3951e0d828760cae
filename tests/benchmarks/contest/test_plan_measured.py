"""`tidegate plan` agrees with the latest contest: an engine that costs more, or less, makes this fail."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.contest import scaling
from benchmarks.contest.figures import Outcome, whole
from benchmarks.contest.rounds import ENGINE, CaseResult
from benchmarks.contest.sizes import KEPT, Case
from engine.service.capacity import BUSIEST_CORES, MEASURED, RESTORED_PER_S, cost

OFF = 0.25  # difference between two runs on a machine that others use too
ALIKE = Case("", 0, 0)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    kept = whole(KEPT)
    assert kept is not None, "run `make bench`"
    return Outcome.from_dict(kept)


def usual(outcome: Outcome) -> list[CaseResult]:
    """Return the cases that a plan is for: uniform senders, lz4, whole batches, and enough events for all senders."""
    names = ("shape", "codec", "ipv6_share", "chunk")
    return [
        case
        for case in outcome.cases
        if all(getattr(case.case, name) == getattr(ALIKE, name) for name in names)
        and case.case.keys <= case.case.events
        and ENGINE in case.runs
    ]


def test_cost_of_an_event_is_that_of_the_contest(outcome: Outcome) -> None:
    measured = {case.case.keys: median(run.cpu_s_per_million for run in case.runs[ENGINE]) for case in usual(outcome)}
    measured |= {each.keys: each.cpu_s_per_million for each in outcome.key_costs}
    assert measured.keys() >= {keys for keys, _ in MEASURED}
    for keys, cpu_s in measured.items():
        assert cost(keys) == pytest.approx(cpu_s, rel=OFF), f"{keys:,} senders"


def test_busiest_cores_are_those_of_the_contest(outcome: Outcome) -> None:
    runs = [run for case in usual(outcome) for run in case.runs[ENGINE]]
    busy = median(run.events_per_s * run.cpu_s_per_million / 1e6 for run in runs)
    assert busy == pytest.approx(BUSIEST_CORES, rel=OFF)


def test_restored_rows_per_second_are_those_of_the_contest(outcome: Outcome) -> None:
    slowest = max((each for each in outcome.recoveries if each.name == ENGINE), key=lambda each: each.keys)
    assert slowest.restored_s - slowest.empty_s <= slowest.keys / RESTORED_PER_S * (1 + OFF)


def test_several_workers_cost_no_more_per_event_than_one(outcome: Outcome) -> None:
    """The plan's first assumption, for CPU time; the rate is bounded by this machine's cores."""
    kinds = [(workers, standbys) for workers, standbys in scaling.by_kind(outcome.scaled) if not standbys]
    assert len(kinds) > 1, "run `make bench` on a machine with several cores"
    assert all(median(scaling.times_one(outcome.scaled, kind, "cpu_s_per_million")) <= 1 + OFF for kind in kinds)
