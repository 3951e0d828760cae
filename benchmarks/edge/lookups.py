"""The speed of an edge's answers with a million decisions in memory, compared with redis-server GET and postfwd.

All servers run on this machine and get the same load (`lookup_load`), in turn, round after round; ratios are taken within a
round. The rate is that of a closed load at 16 and at 64 connections; latency is that of an open load at half of the edge's
rate. Every answer is checked. Figures that miss their target are printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.edge.lookup_load import run_load
from benchmarks.edge.servers import edge, postfwd, redis, write_snapshot
from benchmarks.harness import command
from benchmarks.harness.command import Report, new_parser, parse
from benchmarks.harness.results import FOLDER, Target, spread, table

CONNECTIONS = (16, 64)
MOST_P99_MS = 1.0
SMALL = {"decisions": 5_000, "seconds": 0.3, "rounds": 1}
HEAD = "load | answers/s | p50 ms | p99 ms | p99.9 ms"
Runs = dict[str, list[dict[str, Any]]]


def measure_runs(given: argparse.Namespace, folder: Path) -> tuple[Runs, float]:
    """Run all loads, in turn; return them, and the edge's memory in MB."""
    write_snapshot(folder / "edge", given.decisions)
    runs: Runs = {}

    def load(name: str, port: int, protocol: str, connections: int, rate: float = 0.0) -> None:
        measured = run_load(port, protocol, connections, given.decisions, given.seconds, rate)
        runs.setdefault(name, []).append(measured)

    with edge(folder / "edge", events="off") as ours, redis(given.decisions) as theirs:
        rss_mb = ours.rss_mb
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                load(f"edge_{connections}", ours.port, "policy", connections)
                load(f"redis_{connections}", theirs.port, "redis", connections)
            half = runs["edge_16"][-1]["per_s"] / 2
            load("edge_open_16", ours.port, "policy", 16, half)
            load("redis_open_16", theirs.port, "redis", 16, half)
            load("http_16", ours.http, "http", 16)
    with edge(folder / "edge", events="off", processes=2) as ours, redis(given.decisions) as theirs:
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                load(f"edge_2_{connections}", ours.port, "policy", connections)
                load(f"redis_2_{connections}", theirs.port, "redis", connections)
    with postfwd(folder) as port:
        for _ in range(given.rounds):
            load("postfwd_16", port, "policy", 16)
    with edge(folder / "edge", events="on") as reporting:
        for _ in range(given.rounds):
            load("edge_events_16", reporting.port, "policy", 16)
    return runs, rss_mb


def figures(runs: Runs, rss_mb: float) -> dict[str, float]:
    """Return the last line's figures."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(run[figure] for run in runs[name]))

    def ratio(connections: int, processes: str = "") -> float:
        pairs = zip(runs[f"edge{processes}_{connections}"], runs[f"redis{processes}_{connections}"], strict=True)
        return round(float(statistics.median(ours["per_s"] / theirs["per_s"] for ours, theirs in pairs)), 3)

    return {
        "lookups_per_s_16": round(median("edge_16", "per_s")),
        "ratio_redis_16": ratio(16),
        "ratio_redis_64": ratio(64),
        "policy_p99_ms_16": round(median("edge_open_16", "p99_ms"), 3),
        "redis_p99_ms_16": round(median("redis_open_16", "p99_ms"), 3),
        "rss_mb_1m_decisions": round(rss_mb),
        "lookups_per_s_16_with_events": round(median("edge_events_16", "per_s")),
        "postfwd_per_s_16": round(median("postfwd_16", "per_s")),
        "http_lookups_per_s_16": round(median("http_16", "per_s")),
        "lookups_per_s_16_two_processes": round(median("edge_2_16", "per_s")),
        "lookups_per_s_64_two_processes": round(median("edge_2_64", "per_s")),
        "ratio_redis_16_two_processes": ratio(16, "_2"),
        "ratio_redis_64_two_processes": ratio(64, "_2"),
        "load_cpu_us": round(median("redis_16", "load_cpu_us"), 2),
    }


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    percentiles = [spread([run[figure] for run in runs], digits=3) for figure in ("p50_ms", "p99_ms", "p999_ms")]
    return [name, spread([run["per_s"] for run in runs], digits=0), *percentiles]


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure all servers."""
    runs, rss_mb = measure_runs(given, folder)
    found = figures(runs, rss_mb)
    targets = (
        Target("ratio to redis-server GET, 16 connections", found["ratio_redis_16"], 1.0, at_least=True),
        Target("ratio to redis-server GET, 64 connections", found["ratio_redis_64"], 1.0, at_least=True),
        Target("p99 in ms at half of the rate, 16 connections", found["policy_p99_ms_16"], MOST_P99_MS),
    )
    lines = table(HEAD, [_row(name, each) for name, each in runs.items()])
    return Report(found, {"runs": runs, "rss_mb": rss_mb}, lambda _: lines, targets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "lookup.ndjson")
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    return command.run(measure, parse(parser, SMALL, arguments))


if __name__ == "__main__":
    sys.exit(main())
