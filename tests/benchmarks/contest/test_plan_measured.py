"""`tidegate plan` is held to what was measured last: an engine that has become dearer, or cheaper, makes this fail."""

from __future__ import annotations

from statistics import median

import pytest
from benchmarks.contest.kept import whole

from benchmarks.contest import scaling
from benchmarks.contest.figures import Outcome
from benchmarks.contest.rounds import ENGINE, CaseResult
from benchmarks.contest.sizes import KEPT, Case
from engine.service.capacity import BUSIEST_CORES, MEASURED, RESTORED_PER_S, cost

OFF = 0.25  # what one run may differ from another on a machine that others use too
ALIKE = Case("", 0, 0)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    kept = whole(KEPT)
    assert kept is not None, "run `make bench`"
    return Outcome.from_dict(kept)


def usual(outcome: Outcome) -> list[CaseResult]:
    """The cases that a plan is for: senders drawn uniformly, lz4, whole batches, and events enough to meet them all."""
    names = ("shape", "codec", "ipv6_share", "chunk")
    return [
        case
        for case in outcome.cases
        if all(getattr(case.case, name) == getattr(ALIKE, name) for name in names)
        and case.case.keys <= case.case.events
        and ENGINE in case.runs
    ]


def test_an_event_costs_what_the_contest_measured(outcome: Outcome) -> None:
    measured = {case.case.keys: median(run.cpu_s_per_million for run in case.runs[ENGINE]) for case in usual(outcome)}
    measured |= {each.keys: each.cpu_s_per_million for each in outcome.key_costs}
    assert measured.keys() >= {keys for keys, _ in MEASURED}
    for keys, cpu_s in measured.items():
        assert cost(keys) == pytest.approx(cpu_s, rel=OFF), f"{keys:,} senders"


def test_a_worker_keeps_so_many_cores_busy(outcome: Outcome) -> None:
    runs = [run for case in usual(outcome) for run in case.runs[ENGINE]]
    busy = median(run.events_per_s * run.cpu_s_per_million / 1e6 for run in runs)
    assert busy == pytest.approx(BUSIEST_CORES, rel=OFF)


def test_a_worker_restores_so_many_rows_a_second(outcome: Outcome) -> None:
    slowest = max((each for each in outcome.recoveries if each.name == ENGINE), key=lambda each: each.keys)
    assert slowest.restored_s - slowest.empty_s <= slowest.keys / RESTORED_PER_S * (1 + OFF)


def test_several_workers_cost_an_event_no_more_than_one(outcome: Outcome) -> None:
    """What the plan's first assumption says of processor time; the rate is bounded by this machine's cores."""
    kinds = [(workers, standbys) for workers, standbys in scaling.by_kind(outcome.scaled) if not standbys]
    assert len(kinds) > 1, "run `make bench` on a machine with several cores"
    assert all(median(scaling.times_one(outcome.scaled, kind, "cpu_s_per_million")) <= 1 + OFF for kind in kinds)
