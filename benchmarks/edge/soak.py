"""Whether idle, slow and hostile clients cost an edge memory, or other clients their answers (`make soak`).

An edge without Kafka, which writes events to disk; ten thousand idle connections and a thousand busy ones at a steady rate,
first in peace, then among clients that drip requests and headers and others that send garbage (`soak_clients`). Memory must
be flat, the busy clients' 99th percentile within twice that of peace, every answer right, no idle connection lost, every
slow one closed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.edge.lookup_load import run_load
from benchmarks.edge.servers import Server, edge, write_snapshot
from benchmarks.harness import command
from benchmarks.harness.command import Report, new_parser, parse
from benchmarks.harness.errors import Broken
from benchmarks.harness.results import FOLDER, ROOT, Target

PEACE_S = 60.0
DRIPPING, GARBAGE_PER_S = 100, 20.0
SAMPLE_S = 0.5
MAX_RATIO, MAX_GROWTH = 2.0, 1.05
SMALL = {"seconds": 8.0, "idle": 300, "busy": 50, "rate": 300.0, "decisions": 2_000}


class Memory:
    """Samples the resident memory of a server, in 10^6 bytes, as long as a `with` block lasts."""

    def __init__(self, server: Server) -> None:
        self.samples_mb: list[float] = []
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.samples_mb.append(self._server.rss_mb)

    def growth(self) -> float:
        """Return the maximum of the last fifth relative to the second one; in the first, buffers reach their size."""
        fifth = max(1, len(self.samples_mb) // 5)
        return max(self.samples_mb[-fifth:]) / max(self.samples_mb[fifth : 2 * fifth] or self.samples_mb)


def next_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of `soak_clients`."""
    assert process.stdout
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    """Start the next step of `soak_clients`, which waits for a line."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


@contextmanager
def idle_clients(server: Server, idle: int) -> Iterator[subprocess.Popen[str]]:
    """Run the idle clients, connected."""
    options = {"policy": server.port, "http": server.http, "idle": idle, "dripping": DRIPPING, "garbage": GARBAGE_PER_S}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command_line = [sys.executable, "-m", "benchmarks.edge.soak_clients", *words]
    with subprocess.Popen(command_line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if next_line(process) != "ready":
                raise Broken("the idle clients can't connect: allow 12,000 open files (ulimit -n)")
            yield process
        finally:
            process.kill()


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure in peace, then under siege."""
    write_snapshot(folder / "edge", given.decisions)

    def busy(seconds: float) -> dict[str, Any]:
        return run_load(server.port, "policy", given.busy, given.decisions, seconds, given.rate)

    with edge(folder / "edge", events="on") as server, idle_clients(server, given.idle) as clients:
        peace = busy(min(PEACE_S, given.seconds / 2))
        go_on(clients)
        with Memory(server) as memory:
            siege = busy(given.seconds)
        go_on(clients)
        outcome = orjson.loads(next_line(clients))
    found = {
        "p99_ms_peace": round(peace["p99_ms"], 3),
        "p99_ms_siege": round(siege["p99_ms"], 3),
        "p99_ratio": round(siege["p99_ms"] / peace["p99_ms"], 2),
        "rss_mb": round(max(memory.samples_mb), 1),
        "rss_growth": round(memory.growth(), 3),
        "answers": siege["answers"],
        "cut_off": outcome.get("cut off", 0),
        "garbage": outcome.get("garbage", 0),
        "idle_lost": outcome["idle lost"],
    }
    targets = (
        Target("99th percentile under siege relative to peace", found["p99_ratio"], MAX_RATIO),
        Target("growth of memory", found["rss_growth"], MAX_GROWTH),
    )
    kept = {"peace": peace, "siege": siege, "clients": outcome, "memory_mb": memory.samples_mb}
    wrong = [f"{found['idle_lost']} idle connections were lost"] if found["idle_lost"] else []
    return Report(found, kept, targets=targets, wrong=wrong)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "soak.ndjson")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the siege")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections")
    parser.add_argument("--busy", type=int, default=1_000, help="busy connections")
    parser.add_argument("--rate", type=float, default=2_000.0, help="questions per second of all busy clients together")
    parser.add_argument("--decisions", type=int, default=100_000)
    return command.run(measure, parse(parser, SMALL, arguments))


if __name__ == "__main__":
    sys.exit(main())
