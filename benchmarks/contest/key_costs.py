"""What an event costs and what a sender takes, against the number of senders that are known.

Each topic begins with one event of every sender; what is told of cost is what follows, drawn uniformly of them: the worker
from the first status with all senders in its tables to the last event's durability, and its kernel alone on the same
number of rows (`keykernel.py`). All are younger than a week and so counted in their pools, the dear case. Tables are as
large as `tidegate plan` would have them, so nobody waits at the door.

Memory is the worker's whole process at its most, and what it grew by since it was empty, each divided by the senders;
``table_octets``: their rows and the index over them; ``state_octets``: all that a partition keeps, pools too, as resident.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.rounds import ENGINE, forget, prepare, rows_for
from benchmarks.contest.sizes import Case, Sizes
from benchmarks.harness import answers
from benchmarks.harness.cluster import PARTITIONS
from benchmarks.harness.engine_runs import json_of, watch_engine
from benchmarks.harness.errors import Broken
from benchmarks.harness.worker import Sample, measured
from engine.detector.layout import ROW

KERNEL = Path(__file__).with_name("keykernel.py")
INDEX_OCTETS = 8  # a row of the table: two places of four octets


@dataclass(frozen=True)
class KeyCost:
    """One number of senders. ``events_per_s``, ``cpu_s_per_million``: of the worker once all are known; ``kernel_us``: of
    detecting alone, on one thread; ``first_cpu_s_per_million``: of the worker while they came, a row made for each."""

    keys: int
    events: int
    events_per_s: float
    cpu_s_per_million: float
    first_cpu_s_per_million: float
    kernel_us: float
    table_octets: float
    state_octets: float
    rss_most_octets: float
    rss_growth_octets: float
    complaints: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For the kept result."""
        return asdict(self)


def run(chosen: Sizes, bootstrap: str, folder: Path, say: Callable[[str], None]) -> Iterator[KeyCost]:
    """Every number of senders."""
    for case in chosen.known():
        found = _one(case, bootstrap, folder)
        say(
            f"{case.name}: {found.events_per_s:,.0f}/s, {found.cpu_s_per_million:.2f} CPU s/M, kernel {found.kernel_us:.3f} µs,"
            f" {found.rss_most_octets:,.0f} octets a sender {found.complaints or ''}"
        )
        yield found


def _one(case: Case, bootstrap: str, folder: Path) -> KeyCost:
    ground = prepare(case, bootstrap, f"keys-{time.time_ns()}-", folder)
    samples, last, started_s = watch_engine(ground.place, folder)
    whole = measured(samples, last, started_s)
    wrong = answers.complaints(ground.place, whole, case.events, ground.replayed)
    forget(ground)
    kernel = json_of(ground.place, KERNEL, ["--keys", str(case.keys), "--events", str(case.events - case.keys)])
    applied = next(sample for sample in samples if sample.reached("applied", last))
    known = all_known(samples, case.keys)
    if known.records >= applied.records:
        known = samples[0]  # a topic so short that one status tells all of it
    events = applied.records - known.records
    return KeyCost(
        keys=case.keys,
        events=events,
        events_per_s=events / max(applied.time_s - known.time_s, 1e-3),
        cpu_s_per_million=(samples[-1].cpu_s - known.cpu_s) / events * 1e6,
        first_cpu_s_per_million=(known.cpu_s - samples[0].cpu_s) / max(known.records, 1) * 1e6,
        kernel_us=kernel["us_an_event"],
        table_octets=ROW.itemsize + INDEX_OCTETS * PARTITIONS * rows_for(case.keys) / case.keys,
        state_octets=kernel["rss_octets_per_key"],
        rss_most_octets=whole.rss_most_mb * 2**20 / case.keys,
        rss_growth_octets=whole.rss_growth_octets_per_key,
        complaints=[f"{ENGINE}, {case.name}: {each}" for each in wrong],
    )


def short(keys: int) -> str:
    """A number of senders in a figure's name: 10k, 10m."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if keys % unit == 0:
            return f"{keys // unit}{letter}"
    return str(keys)


def told(costs: Sequence[KeyCost]) -> dict[str, float]:
    """For the last line: what an event costs with the most senders to what it costs with the fewest, and octets a sender."""
    if not costs:
        return {}
    few, many = min(costs, key=lambda each: each.keys), max(costs, key=lambda each: each.keys)
    name = short(many.keys)
    return {
        f"cost_ratio_{name}_{short(few.keys)}": round(many.cpu_s_per_million / few.cpu_s_per_million, 3),
        f"kernel_ratio_{name}_{short(few.keys)}": round(many.kernel_us / few.kernel_us, 3),
        f"table_octets_per_key_{name}": round(many.table_octets, 1),
        f"rss_octets_per_key_{name}": round(many.rss_most_octets, 1),
        f"rss_growth_octets_per_key_{name}": round(many.rss_growth_octets, 1),
    }


def all_known(samples: list[Sample], keys: int) -> Sample:
    """The first status with so many senders in the tables; `Broken` if there is none."""
    for sample in samples:
        if sample.status["keys"] >= keys:
            return sample
    raise Broken(f"the worker never knew all {keys:,} senders")
