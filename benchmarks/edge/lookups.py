"""How quickly the edge answers, with a million decisions in memory, beside redis-server GET and postfwd on the same machine.

All are asked by the same generator (`lookup_load.py`), in turn, round after round; ratios are those of one round. The rate is
that of a closed load at 16 and at 64 connections; latency is that of an open load at half of the edge's rate. Every answer
is checked. The last line is one JSON object. Floors and losses are printed: what falls short of its target says so.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from benchmarks.edge.servers import edge, postfwd, redis, write_snapshot
from benchmarks.harness.errors import Broken
from benchmarks.harness.machine import stamp
from benchmarks.harness.report import Target, spread
from benchmarks.harness.results import FOLDER, keep

LOAD = Path(__file__).with_name("lookup_load.py")
CONNECTIONS = (16, 64)
MOST_P99_MS = 1.0


def load(port: int, protocol: str, connections: int, given: argparse.Namespace, rate: float = 0.0) -> dict[str, Any]:
    """One load in a process of its own; what it measured. `Broken` if an answer was wrong."""
    command = [sys.executable, "-m", "benchmarks.edge.lookup_load", "--port", str(port), "--protocol", protocol]
    command += ["--connections", str(connections), "--decisions", str(given.decisions)]
    command += ["--seconds", str(given.seconds), "--rate", str(rate)]
    ran = subprocess.run(command, capture_output=True, cwd=LOAD.parents[2], check=False, timeout=600)
    if ran.returncode:
        raise Broken(f"the load on {protocol} ended: {ran.stderr.decode().strip().splitlines()[-1]}")
    measured: dict[str, Any] = orjson.loads(ran.stdout)
    if measured["wrong"] or not measured["answers"]:
        raise Broken(f"{measured['wrong']} of {measured['answers']} answers of {protocol} were wrong")
    return measured


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All loads, in turn."""
    write_snapshot(folder / "edge", given.decisions)
    runs: dict[str, list[dict[str, Any]]] = {}
    with edge(folder / "edge", events="off") as ours, redis(given.decisions) as theirs:
        rss_mb = ours.rss_mb
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                for name, port, protocol in (("edge", ours.port, "policy"), ("redis", theirs.port, "redis")):
                    runs.setdefault(f"{name}_{connections}", []).append(load(port, protocol, connections, given))
            half = runs["edge_16"][-1]["per_s"] / 2
            for name, port, protocol in (("edge", ours.port, "policy"), ("redis", theirs.port, "redis")):
                runs.setdefault(f"{name}_open_16", []).append(load(port, protocol, 16, given, half))
            runs.setdefault("http_16", []).append(load(ours.http, "http", 16, given))
    with edge(folder / "edge", events="off", processes=2) as ours, redis(given.decisions) as theirs:
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                for name, port, protocol in (("edge_2", ours.port, "policy"), ("redis_2", theirs.port, "redis")):
                    runs.setdefault(f"{name}_{connections}", []).append(load(port, protocol, connections, given))
    with postfwd(folder) as port:
        runs["postfwd_16"] = [load(port, "policy", 16, given) for _ in range(given.rounds)]
    with edge(folder / "edge", events="on") as reporting:
        runs["edge_events_16"] = [load(reporting.port, "policy", 16, given) for _ in range(given.rounds)]
    return {"runs": runs, "rss_mb": rss_mb}


def figures(measured: dict[str, Any]) -> dict[str, float]:
    """The last line's figures."""
    runs = measured["runs"]

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
        "rss_mb_1m_decisions": round(measured["rss_mb"]),
        "lookups_per_s_16_with_events": round(median("edge_events_16", "per_s")),
        "postfwd_per_s_16": round(median("postfwd_16", "per_s")),
        "http_lookups_per_s_16": round(median("http_16", "per_s")),
        "lookups_per_s_16_two_processes": round(median("edge_2_16", "per_s")),
        "lookups_per_s_64_two_processes": round(median("edge_2_64", "per_s")),
        "ratio_redis_16_two_processes": ratio(16, "_2"),
        "ratio_redis_64_two_processes": ratio(64, "_2"),
        "load_cpu_us": round(median("redis_16", "load_cpu_us"), 2),
    }


def report(measured: dict[str, Any], found: dict[str, float]) -> None:
    """Tables and losses."""
    print("| load | answers/s | p50 ms | p99 ms | p99.9 ms |\n| --- | ---: | ---: | ---: | ---: |")
    for name, runs in measured["runs"].items():
        columns = [spread([run["per_s"] for run in runs], digits=0)]
        columns += [spread([run[figure] for run in runs], digits=3) for figure in ("p50_ms", "p99_ms", "p999_ms")]
        print(f"| {name} | {' | '.join(columns)} |")
    wanted = [
        Target("ratio to redis-server GET, 16 connections", found["ratio_redis_16"], 1.0, True),
        Target("ratio to redis-server GET, 64 connections", found["ratio_redis_64"], 1.0, True),
        Target("p99 in ms at half of the rate, 16 connections", found["policy_p99_ms_16"], MOST_P99_MS, False),
    ]
    losses = [target.text() for target in wanted if not target.kept]
    print(f"\nFalls short: {'; '.join(losses)}." if losses else "\nNothing falls short.")


def main() -> int:
    """Run it; 1 if something broke or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=FOLDER / "lookup.ndjson")
    parser.add_argument("--small", action="store_true", help="a few seconds: checks the answers only, keeps nothing")
    given = parser.parse_args()
    if given.small:
        given.decisions, given.seconds, given.rounds = 5_000, 0.3, 1
    machine = stamp()
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(given, Path(folder))
    except Broken as broken:
        print(f"no result: {broken}", file=sys.stderr)
        return 1
    found = figures(measured)
    report(measured, found)
    if not given.small:
        sizes = {"decisions": given.decisions, "seconds": given.seconds, "rounds": given.rounds}
        keep({"sizes": sizes, "machine": machine, **measured, "figures": found}, given.results)
    print(orjson.dumps(found).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
