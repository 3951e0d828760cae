"""The cost of an event by part of the model: `make bench-model`.

One partition in memory, no Kafka, no JSON: only `detect` is timed, in CPU time. Four populations send the same events; they
differ in the state of the senders, and so in the parts that have work to do:

    established  known for a month                the row: index, counters, limits of the hour, six hours and the day
    busy         with ten-minute history too      the two fast scales' limits in addition
    young        known for three days             both pools in addition
    newcomers    never seen before                the cohort in addition, and a new row for each

Populations take turns, round after round; a part's cost is a difference of medians. Each answer is checked. With --keep the
table goes into engine/detector/README.md. The last line also has each population's cost, and its memory per sender.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.harness import command
from benchmarks.harness.command import Report, log_progress
from benchmarks.harness.results import FOLDER, ROOT, GeneratedPart, latest, table
from benchmarks.harness.traffic import columns_of
from engine.detector.throttle import Policy
from engine.pipeline.precompile import precompile
from engine.state.partition import Partition
from topics.columns.scan import EventColumns

KEPT = FOLDER / "model_cost.ndjson"
PAGE = ROOT / "engine" / "detector" / "README.md"
PART = GeneratedPart("model cost", "make bench-model")
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
SPAN_MS = 3_600_000
BLOCK = 11_000  # events that the worker applies at a time
MUCH = 1e6  # a baseline that no counter reaches
POPULATIONS = ("established", "busy", "young", "newcomers")
PARTS = {
    "row: index, counters, limits": ("established", None),
    "fast scales' limits": ("busy", "established"),
    "two pools": ("young", "established"),
    "cohort, and making the row": ("newcomers", "young"),
    "a newcomer's event, all in all": ("newcomers", None),
}


class Events(NamedTuple):
    """Senders, and the events that they send within an hour."""

    senders: npt.NDArray[np.uint64]
    columns: EventColumns


class Cost(NamedTuple):
    """One run of a population."""

    us_an_event: float
    rss_bytes_per_key: float  # growth of the process with the state of all senders
    complaints: list[str]


def events(keys: int, count: int, seed: int) -> Events:
    """Return ``count`` events of ``keys`` senders drawn uniformly; a /24 has sixteen of them at most."""
    draw = np.random.default_rng(seed)
    networks = draw.choice(1 << 24, keys // 16 + 1, replace=False).astype(np.uint64)
    senders = (
        0xFFFFFFFF_00000000 + np.repeat(networks << np.uint64(8), 16)[:keys] + np.arange(keys, dtype=np.uint64) % 16
    )
    return Events(senders, columns_of(draw.choice(senders, count), START_MS + np.arange(count) * SPAN_MS // count))


def prepared(population: str, senders: npt.NDArray[np.uint64]) -> Partition:
    """Return a partition of a site that is a month old, with the population's state of each sender."""
    mine = Partition(Policy(1.0, DAY_MS, 0, 1), 1 << max(len(senders) * 9 // 8, 1024).bit_length())
    site = mine.state.site[0]
    if population != "newcomers":
        times_ms = START_MS + np.arange(len(senders)) * SPAN_MS // len(senders)
        for first in range(0, len(senders), BLOCK):
            block = slice(first, first + BLOCK)
            columns = columns_of(senders[block], times_ms[block], first)
            mine.apply(columns, 0, len(columns.offset))
        rows, days = mine.state.rows[: mine.keys], 3 if population == "young" else 30
        rows["first_seen_s"] = START_MS // 1000 - days * DAY_MS // 1000
        rows["active_days"], rows["memory"][:, :3] = days, MUCH
        rows["accepted"], rows["flags"] = 0, 0
        if population == "busy":
            rows["memory"][:, 3:] = MUCH
        mine.state.cursor["dirty"] = 0
        mine.state.pools.keys[:], mine.state.pools.rows[:], mine.state.pools.cursor[:] = 0, 0, 0
    site["first_ms"], site["cohort_rescaled_s"] = START_MS - 30 * DAY_MS, START_MS // 1000 - DAY_MS // 1000
    site["applied_offset"], site["events"] = -1, 0
    return mine


def run(population: str, given: Events) -> Cost:
    """Apply the events to a population and check the answer."""
    columns, count = given.columns, len(given.columns.offset)
    rss_bytes = psutil.Process().memory_info().rss
    mine = prepared(population, given.senders)
    rss_bytes = psutil.Process().memory_info().rss - rss_bytes
    began_s = time.process_time()
    for first in range(0, count, BLOCK):
        mine.apply(columns, first, min(first + BLOCK, count))
    cost_us = (time.process_time() - began_s) / count * 1e6
    senders = np.unique(columns.key) if population == "newcomers" else given.senders
    rows, pools = mine.state.rows[: mine.keys], int(mine.state.pools.cursor["rows"][0])
    found = {"events": int(mine.state.site["events"][0]), "accepted": int(rows["accepted"].sum()), "senders": mine.keys}
    wanted = {"events": count, "accepted": count, "senders": len(senders)}
    names = [name for name in found if found[name] != wanted[name]]
    wrong = [f"{population}: {found[name]:,} {name}, wanted {wanted[name]:,}" for name in names]
    if (pools > 0) != (population in ("young", "newcomers")):
        wrong.append(f"{population}: {pools:,} pools")
    return Cost(cost_us, rss_bytes / len(given.senders), wrong)


def of_part(costs: dict[str, list[float]], part: str) -> float:
    """Return the microseconds per event that a part takes."""
    whole, rest = PARTS[part]
    return median(costs[whole]) - (median(costs[rest]) if rest else 0.0)


def text(result: dict[str, Any]) -> str:
    """Return the table of a result, Markdown. Results of 2026 have their sizes at the top."""
    machine, sizes, costs = result["machine"], result.get("sizes", result), result["costs"]
    head = (
        f"{machine['time'][:10]}, commit {machine['commit']}: {machine['cpu']}, load before {machine['load_before']}; "
    )
    head += f"medians of {sizes['rounds']} rounds of {sizes['events']:,} events, µs an event:"
    rows = [[part, *(f"{of_part(each, part):.3f}" for each in costs.values())] for part in PARTS]
    columns = " | ".join(["part", *(f"{int(keys):,} senders" for keys in costs)])
    return "\n".join(["", "", head, "", *table(columns, rows), "", ""])


def measure(given: argparse.Namespace, _folder: Path) -> Report:
    """Measure every population with every number of senders."""
    precompile()
    costs: dict[str, dict[str, list[float]]] = {}
    last: dict[str, dict[str, dict[str, float]]] = {}
    wrong = []
    for keys in given.keys:
        drawn, mine = events(keys, given.events, keys), {population: list[Cost]() for population in given.populations}
        for population in (*given.populations,) * given.rounds:
            mine[population].append(run(population, drawn))
            wrong += [f"{keys:,} senders, {each}" for each in mine[population][-1].complaints]
        log_progress(f"{keys:,} senders: done")
        key = str(keys)
        costs[key] = {name: [cost.us_an_event for cost in found] for name, found in mine.items()}
        last[key] = {
            name: {"us_an_event": median(costs[key][name]), "rss_bytes_per_key": found[-1].rss_bytes_per_key}
            for name, found in mine.items()
        }
    is_whole = set(given.populations) == set(POPULATIONS)
    figures = {
        "us_an_event": {k: {p: round(of_part(each, p), 4) for p in PARTS if is_whole} for k, each in costs.items()},
        "populations": last,
        "answer": "wrong" if wrong else "right",
    }
    show = (lambda result: [text(result).strip()]) if is_whole else (lambda _: [])
    return Report(figures, {"costs": costs}, show, wrong=wrong, write_pages=write)


def write() -> None:
    """Update the page from the latest result."""
    result = latest(KEPT)
    assert result is not None
    PART.write(PAGE, text(result))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keys", type=int, nargs="+", default=[10_000, 200_000, 1_000_000], help="senders, a column each"
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--populations", nargs="+", choices=POPULATIONS, default=POPULATIONS, help="without a table")
    parser.add_argument(
        "--keep", dest="results", action="store_const", const=KEPT, help="append the result, and update the table"
    )
    given = parser.parse_args(arguments)
    if given.results and len(set(given.populations)) < len(POPULATIONS):
        parser.error("--keep needs all populations")
    return command.run(measure, given)


if __name__ == "__main__":
    sys.exit(main())
