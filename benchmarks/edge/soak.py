"""Do idle, slow and mad clients cost an edge memory, or the others their answers?

An edge without Kafka, which writes events to disk; ten thousand idle connections and a thousand busy ones at a steady
rate, at first in peace, then among clients that drip requests and headers and others that send garbage (`soak_clients.py`).
Memory must be flat, the busy ones' 99th percentile within twice that of peace, every answer right, no idle connection lost,
every slow one cut off. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.edge.lookups import LOAD
from benchmarks.edge.servers import Server, edge, write_snapshot
from benchmarks.harness.errors import Broken
from benchmarks.harness.machine import stamp
from benchmarks.harness.report import Target
from benchmarks.harness.results import FOLDER, keep

ROOT = LOAD.parents[2]
PEACE_S = 60.0
DRIPPING, GARBAGE_PER_S = 100, 20.0
SAMPLE_S = 0.5
MOST_RATIO, MOST_GROWTH = 2.0, 1.05


class Memory:
    """Resident memory of a server over time, 10^6 octets."""

    def __init__(self, server: Server) -> None:
        self.samples_mb: list[float] = []
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.samples_mb.append(self._server.rss_mb)

    def growth(self) -> float:
        """The most of the last fifth to the most of the second one: the first sees buffers find their size."""
        fifth = max(1, len(self.samples_mb) // 5)
        return max(self.samples_mb[-fifth:]) / max(self.samples_mb[fifth : 2 * fifth] or self.samples_mb)


@contextmanager
def crowd(server: Server, idle: int) -> Iterator[subprocess.Popen[str]]:
    """The idle clients, connected."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.edge.soak_clients",
        "--policy",
        str(server.port),
        "--http",
        str(server.http),
    ]
    command += ["--idle", str(idle), "--dripping", str(DRIPPING), "--garbage", str(GARBAGE_PER_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if said(process) != "ready":
                raise Broken("the idle clients can't connect: are 12,000 open files allowed (ulimit -n)?")
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Go on."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def busy(server: Server, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Ask at the steady rate for so long."""
    command = [sys.executable, "-m", "benchmarks.edge.lookup_load", "--port", str(server.port), "--protocol", "policy"]
    command += ["--connections", str(given.busy), "--decisions", str(given.decisions), "--seconds", str(seconds)]
    ran = subprocess.run(
        [*command, "--rate", str(given.rate)], capture_output=True, cwd=ROOT, check=False, timeout=seconds * 3 + 60
    )
    if ran.returncode:
        raise Broken(f"the busy clients ended: {ran.stderr.decode().strip().splitlines()[-1]}")
    measured: dict[str, Any] = orjson.loads(ran.stdout)
    if measured["wrong"]:
        raise Broken(f"{measured['wrong']} of {measured['answers']} answers were wrong")
    return measured


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Peace, then the siege."""
    write_snapshot(folder / "edge", given.decisions)
    with edge(folder / "edge", events="on") as server, crowd(server, given.idle) as clients:
        peace = busy(server, given, min(PEACE_S, given.seconds / 2))
        tell(clients)
        with Memory(server) as memory:
            siege = busy(server, given, given.seconds)
        tell(clients)
        outcome = orjson.loads(said(clients))
    return {
        "peace": peace,
        "siege": siege,
        "clients": outcome,
        "memory_mb": memory.samples_mb,
        "growth": memory.growth(),
    }


def figures(measured: dict[str, Any]) -> dict[str, float]:
    """The last line's figures."""
    peace, siege, outcome = measured["peace"], measured["siege"], measured["clients"]
    return {
        "p99_ms_peace": round(peace["p99_ms"], 3),
        "p99_ms_siege": round(siege["p99_ms"], 3),
        "p99_ratio": round(siege["p99_ms"] / peace["p99_ms"], 2),
        "rss_mb": round(max(measured["memory_mb"]), 1),
        "rss_growth": round(measured["growth"], 3),
        "answers": siege["answers"],
        "cut_off": outcome.get("cut off", 0),
        "garbage": outcome.get("garbage", 0),
        "idle_lost": outcome["idle lost"],
    }


def main() -> int:
    """Run it; 1 if something broke, an answer was wrong, or an idle connection was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the siege")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--busy", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=2_000.0, help="questions a second, of all busy clients together")
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=FOLDER / "soak.ndjson")
    parser.add_argument("--small", action="store_true", help="ten seconds: checks the answers only, keeps nothing")
    given = parser.parse_args()
    if given.small:
        given.seconds, given.idle, given.busy, given.rate, given.decisions = 8.0, 300, 50, 300.0, 2_000
    machine, began_s = stamp(), time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(given, Path(folder))
    except Broken as broken:
        print(f"no result: {broken}", file=sys.stderr)
        return 1
    found = figures(measured)
    targets = [
        Target("99th percentile under siege to that of peace", found["p99_ratio"], MOST_RATIO, False),
        Target("growth of memory", found["rss_growth"], MOST_GROWTH, False),
    ]
    print("\n".join(target.text() + ("" if target.kept else ": falls short") for target in targets))
    if not given.small:
        sizes = {name: getattr(given, name) for name in ("seconds", "idle", "busy", "rate", "decisions")}
        took_s = round(time.monotonic() - began_s)
        keep({"sizes": sizes, "machine": machine, "took_s": took_s, **measured, "figures": found}, given.results)
    print(orjson.dumps(found).decode())
    return int(found["idle_lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
