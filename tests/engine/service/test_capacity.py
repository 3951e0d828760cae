"""`tidegate plan`: the plan grows with the load, satisfies its own model, and is refused when nothing fits."""

from __future__ import annotations

import itertools

import pytest

from engine.cli import main
from engine.config.options import Settings
from engine.detector.layout import BYTES_A_ROW
from engine.service.capacity import FULLEST, MEASURED, Load, Plan, cost, plan


def planned(events_per_s: float, keys: int, cpu_s: float = 0.0) -> Plan:
    return plan(Load(events_per_s, keys, 0.6, cpu_s), Settings(), BYTES_A_ROW)


def test_cost_passes_through_the_measurements_and_rises_with_the_senders() -> None:
    for keys, cpu_s in MEASURED:
        assert cost(keys) == pytest.approx(cpu_s)
    assert cost(1_000) <= cost(200_000) < cost(1_000_000) < cost(10_000_000)


@pytest.mark.parametrize(("events_per_s", "keys"), [(1, 1), (50_000, 200_000), (5_000_000, 20_000_000), (1e8, 10)])
def test_workers_carry_the_peak_without_one_of_them(events_per_s: float, keys: int) -> None:
    found = planned(events_per_s, keys)

    assert (found.workers - 1) * found.worker_events_per_s * 0.6 >= events_per_s
    assert found.partitions >= found.workers
    assert found.partitions * found.rows_per_partition * FULLEST >= keys


def test_more_load_never_needs_fewer_workers() -> None:
    found = [planned(events_per_s, 500_000) for events_per_s in (1e3, 1e5, 1e6, 1e7)]
    for less, more in itertools.pairwise(found):
        assert less.workers <= more.workers
        assert less.cores < more.cores
        assert less.network_mb_per_s < more.network_mb_per_s


def test_own_measurement_replaces_the_model() -> None:
    assert planned(1e6, 1_000_000, cpu_s=2.0).cores == pytest.approx(2.0)


def test_plan_names_the_options_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--events-per-s", "10000000", "--keys", "50000000"]) == 0

    output = capsys.readouterr().out
    assert "set topics.partitions = " in output
    assert "set worker.rows_per_partition = " in output


def test_load_within_the_defaults_needs_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--events-per-s", "1000", "--keys", "10000"]) == 0
    assert "set " not in capsys.readouterr().out


def test_load_without_a_fitting_table_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--events-per-s", "1000", "--keys", "900000000000"]) == 2

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "topics.partitions" in error
