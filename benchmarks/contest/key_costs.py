"""The cost of an event and the memory of a sender, by the number of known senders.

Each topic begins with one event of every sender. The cost counts for the events after them, drawn uniformly: of the worker
from the first status with all senders in its tables until the last event is durable, and of its kernel alone with as many
senders (`benchmarks.detection.model_cost`). All are younger than a week and so counted in their pools, the expensive case.
Tables are as large as `tidegate plan` demands, so no sender is untracked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.rounds import ENGINE, prepare, rows_for
from benchmarks.contest.sizes import Case, Sizes
from benchmarks.harness import answers, topic_space
from benchmarks.harness.command import log_progress
from benchmarks.harness.errors import Broken
from benchmarks.harness.topic_space import PARTITIONS
from benchmarks.harness.worker import Sample, figures_of, json_of, watch_engine
from engine.detector.layout import ROW

KERNEL = "benchmarks.detection.model_cost"
INDEX_BYTES = 8  # per row of the table: two slots of four bytes


@dataclass(frozen=True)
class KeyCost:
    """The figures of one number of senders."""

    keys: int
    events: int
    events_per_s: float  # of the worker once all are known
    cpu_s_per_million: float
    first_cpu_s_per_million: float  # while the senders come, and each gets a row
    kernel_us: float  # per event, of detecting alone, on one thread
    table_bytes: float  # per sender: rows, and the index over them
    state_bytes: float  # per sender: all state in resident memory, pools included
    rss_most_bytes: float  # per sender: the worker's process
    rss_growth_bytes: float  # per sender: its growth since it was empty
    complaints: list[str]


def run(chosen: Sizes, bootstrap: str, folder: Path) -> Iterator[KeyCost]:
    """Measure every number of senders."""
    for case in chosen.known():
        found = _measure(case, bootstrap, folder)
        costs = f"{found.cpu_s_per_million:.2f} CPU s/M, kernel {found.kernel_us:.3f} µs"
        memory = f"{found.rss_most_bytes:,.0f} bytes a sender {found.complaints or ''}"
        log_progress(f"{case.name}: {found.events_per_s:,.0f}/s, {costs}, {memory}")
        yield found


def _measure(case: Case, bootstrap: str, folder: Path) -> KeyCost:
    filled = prepare(case, bootstrap, folder)
    samples, last, started_s = watch_engine(filled.space, folder)
    whole = figures_of(samples, last, started_s)
    wrong = answers.complaints(filled.space, whole, case.events, filled.replayed)
    topic_space.delete_all(filled.space)
    sizes = ["--keys", str(case.keys), "--events", str(case.events - case.keys), "--rounds", "1"]
    kernel = json_of(KERNEL, [*sizes, "--populations", "young"], filled.space)["populations"][str(case.keys)]["young"]
    applied = next(sample for sample in samples if sample.has_reached("applied", last))
    known = all_known(samples, case.keys)
    if known.records >= applied.records:
        known = samples[0]  # the topic is so short that one status covers all of it
    events = applied.records - known.records
    return KeyCost(
        keys=case.keys,
        events=events,
        events_per_s=events / max(applied.time_s - known.time_s, 1e-3),
        cpu_s_per_million=(samples[-1].cpu_s - known.cpu_s) / events * 1e6,
        first_cpu_s_per_million=(known.cpu_s - samples[0].cpu_s) / max(known.records, 1) * 1e6,
        kernel_us=kernel["us_an_event"],
        table_bytes=ROW.itemsize + INDEX_BYTES * PARTITIONS * rows_for(case.keys) / case.keys,
        state_bytes=kernel["rss_bytes_per_key"],
        rss_most_bytes=whole.rss_most_mb * 2**20 / case.keys,
        rss_growth_bytes=whole.rss_growth_bytes_per_key,
        complaints=[f"{ENGINE}, {case.name}: {each}" for each in wrong],
    )


def all_known(samples: list[Sample], keys: int) -> Sample:
    """Return the first status with so many senders in the tables; `Broken` if there is none."""
    for sample in samples:
        if sample.status["keys"] >= keys:
            return sample
    raise Broken(f"the worker never knew all {keys:,} senders")


def short(keys: int) -> str:
    """Return a number of senders as figures' names have it: 10k, 10m."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if keys % unit == 0:
            return f"{keys // unit}{letter}"
    return str(keys)


def key_figures(costs: Sequence[KeyCost]) -> dict[str, float]:
    """Return figures for the last line: costs with the most senders relative to the fewest, and bytes per sender."""
    if not costs:
        return {}
    few, many = min(costs, key=lambda each: each.keys), max(costs, key=lambda each: each.keys)
    name = short(many.keys)
    return {
        f"cost_ratio_{name}_{short(few.keys)}": round(many.cpu_s_per_million / few.cpu_s_per_million, 3),
        f"kernel_ratio_{name}_{short(few.keys)}": round(many.kernel_us / few.kernel_us, 3),
        f"table_bytes_per_key_{name}": round(many.table_bytes, 1),
        f"rss_bytes_per_key_{name}": round(many.rss_most_bytes, 1),
        f"rss_growth_bytes_per_key_{name}": round(many.rss_growth_bytes, 1),
    }
