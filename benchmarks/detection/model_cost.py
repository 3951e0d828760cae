"""What the model costs an event, part by part: `make bench-model`.

One partition in memory, no Kafka, no JSON: what is timed is `detect` alone, on the processor's clock. Four populations send
the same events, which differ in what is known of the senders, and so in the parts that have work to do:

    established  known for a month                the row: index, counters, limits of the hour, six hours and the day
    busy         and by the ten minutes too       and the two fast scales' limits
    young        known for three days             and both pools
    newcomers    never seen before                and the cohort, and a row made for each

Populations take turns, round after round; a part's cost is the difference of medians. Each answer is checked. The table goes
to standard output and into engine/detector/README.md; the last line is one JSON object. Exit status: 0, 1 for a wrong answer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.harness import machine
from benchmarks.harness.pages import Part
from benchmarks.harness.results import FOLDER, keep
from engine.detector.throttle import Policy
from engine.pipeline.precompile import warm
from engine.state.partition import Partition
from topics.columns.scan import ACCEPTED, EventColumns, empty_columns

KEPT = FOLDER / "model_cost.ndjson"
PAGE = Path(__file__).parents[2] / "engine" / "detector" / "README.md"
PART = Part("model cost", "make bench-model")
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
SPAN_MS = 3_600_000
BLOCK = 11_000  # events that the worker applies at a time
MUCH = 1e6  # a memory that no counter comes near
POPULATIONS = ("established", "busy", "young", "newcomers")
PARTS = {
    "row: index, counters, limits": ("established", None),
    "fast scales' limits": ("busy", "established"),
    "two pools": ("young", "established"),
    "cohort, and making the row": ("newcomers", "young"),
    "a newcomer's event, all in all": ("newcomers", None),
}


def events(keys: int, count: int, seed: int) -> EventColumns:
    """``count`` events within an hour, of ``keys`` senders drawn uniformly; a /24 has sixteen of them at most."""
    draw = np.random.default_rng(seed)
    networks = draw.choice(1 << 24, keys // 16 + 1, replace=False).astype(np.uint64)
    senders = (
        0xFFFFFFFF_00000000 + np.repeat(networks << np.uint64(8), 16)[:keys] + np.arange(keys, dtype=np.uint64) % 16
    )
    columns = empty_columns(count)
    columns.key[:] = draw.choice(senders, count)
    columns.ts_ms[:] = columns.record_ms[:] = START_MS + np.arange(count) * SPAN_MS // count
    columns.offset[:] = np.arange(count)
    columns.messages[:], columns.outcome[:] = 1, ACCEPTED
    return columns


def prepared(population: str, keys: int, columns: EventColumns) -> Partition:
    """A partition of a site that is a month old, and knows of the senders what the population says."""
    mine = Partition(Policy(1.0, DAY_MS, 0, 1), 1 << max(keys * 9 // 8, 1024).bit_length())
    site = mine.state.site[0]
    if population != "newcomers":
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


def run(population: str, keys: int, columns: EventColumns) -> tuple[float, list[str]]:
    """Microseconds an event, and what is wrong with the answer."""
    mine, count = prepared(population, keys, columns), len(columns.offset)
    began_s = time.process_time()
    for first in range(0, count, BLOCK):
        mine.apply(columns, first, min(first + BLOCK, count))
    cost_us = (time.process_time() - began_s) / count * 1e6
    rows, pools = mine.state.rows[: mine.keys], int(mine.state.pools.cursor["rows"][0])
    found = {"events": int(mine.state.site["events"][0]), "accepted": int(rows["accepted"].sum()), "senders": mine.keys}
    wanted = {"events": count, "accepted": count, "senders": len(np.unique(columns.key))}
    wrong = [
        f"{population}: {found[name]:,} {name}, wanted {wanted[name]:,}"
        for name in found
        if found[name] != wanted[name]
    ]
    if (pools > 0) != (population in ("young", "newcomers")):
        wrong.append(f"{population}: {pools:,} pools")
    return cost_us, wrong


def measure(keys: int, count: int, rounds: int) -> tuple[dict[str, list[float]], list[str]]:
    """Every run's cost by population, and what was wrong."""
    columns, wrong = events(keys, count, keys), []
    costs: dict[str, list[float]] = {population: [] for population in POPULATIONS}
    for _ in range(rounds):
        for population in POPULATIONS:
            cost_us, complaints = run(population, keys, columns)
            costs[population].append(cost_us)
            wrong += [f"{keys:,} senders, {complaint}" for complaint in complaints]
    print(f"{keys:,} senders: done", file=sys.stderr, flush=True)
    return costs, wrong


def of_part(costs: dict[str, list[float]], part: str) -> float:
    """Microseconds an event that a part takes."""
    whole, rest = PARTS[part]
    return statistics.median(costs[whole]) - (statistics.median(costs[rest]) if rest else 0.0)


def text(result: dict[str, Any]) -> str:
    """The table, Markdown."""
    stamp, sizes = result["machine"], list(result["costs"])
    head = f"{stamp['time'][:10]}, commit {stamp['commit']}: {stamp['cpu']}, load before {stamp['load_before']}; "
    head += f"medians of {result['rounds']} rounds of {result['events']:,} events, µs an event:"
    lines = [
        "| part | " + " | ".join(f"{int(size):,} senders" for size in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    lines += [
        f"| {part} | " + " | ".join(f"{of_part(costs, part):.3f}" for costs in result["costs"].values()) + " |"
        for part in PARTS
    ]
    return "\n".join(["", "", head, "", *lines, "", ""])


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """The last line."""
    by_size = {
        size: {part: round(of_part(costs, part), 4) for part in PARTS} for size, costs in result["costs"].items()
    }
    return {"us_an_event": by_size, "answer": "wrong" if result["wrong"] else "right"}


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="make bench-model", description="Microseconds an event, by part of the model."
    )
    parser.add_argument(
        "--keys", type=int, nargs="+", default=[10_000, 200_000, 1_000_000], help="senders, a column each"
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="append the result, and bring the table in README up to it")
    chosen = parser.parse_args()
    stamp = machine.stamp()
    warm()
    measured = {str(keys): measure(keys, chosen.events, chosen.rounds) for keys in chosen.keys}
    result = {
        "machine": stamp,
        "events": chosen.events,
        "rounds": chosen.rounds,
        "costs": {keys: costs for keys, (costs, _) in measured.items()},
        "wrong": [complaint for _, wrong in measured.values() for complaint in wrong],
    }
    print(text(result).strip())
    print("\n".join(f"WRONG {complaint}" for complaint in result["wrong"]) or "answers: right")
    if chosen.keep:
        keep(result, KEPT)
        PART.write(PAGE, text(result))
    print(orjson.dumps(figures(result)).decode())
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
