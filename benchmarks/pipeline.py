"""The engine, whole, against what it should not be slower than: `python benchmarks/pipeline.py` or `make bench-pipeline`.

One question: how many events a second does a worker take from Kafka, with model, decisions and checkpoints on, compared
with Kafka's own consumer performance tool, which only reads, and with a stock Faust agent that keeps river statistics? One
broker, on this machine; topics filled once a case; contenders in turn. Then: how long from event to decision at a moderate
rate? Progress goes to standard error, tables to standard output, whose last line is one JSON object. Exit status: 0, 1 for
a wrong answer, 2 when something broke down. A full run takes about ten minutes and 3 GB of disk.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from benchmarks import machine, report, tables
from benchmarks.cases import CaseResult, cases, run_case
from benchmarks.cluster import Place
from benchmarks.errors import Broken
from benchmarks.latency import Latency, measure
from benchmarks.results import keep
from benchmarks.sizes import KEPT, Sizes, sizes
from engine.errors import OperatorError
from engine.local import EmbeddedBroker

STARTED_S = time.monotonic()


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED_S:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(chosen: Sizes, folder: Path) -> tuple[list[CaseResult], Latency | None]:
    """Everything, on a broker of its own whose data is in ``folder``."""
    with EmbeddedBroker(folder / "broker") as broker:
        say(f"broker ready at {broker.bootstrap}")
        results = [run_case(case, chosen, broker.bootstrap, folder, say) for case in cases(chosen)]
        latency = None
        if chosen.seconds:
            say(f"latency: {chosen.rate:,} events a second for {chosen.seconds:g} s")
            latency = measure(Place(broker.bootstrap, "latency-"), chosen.rate, chosen.seconds, folder)
    return results, latency


def show(results: list[CaseResult], latency: Latency | None, stamp: dict[str, Any]) -> bool:
    """Print all there is to say, the object last; whether the answers were right."""
    wrong = [complaint for result in results for complaint in result.complaints]
    wrong += [f"latency: {complaint}" for complaint in (latency.complaints if latency else [])]
    print(f"{stamp['cpu']}, {stamp['cores']} cores, load before {stamp['load_before']}, commit {stamp['commit']}\n")
    print("\n".join(report.tables(results, latency)))
    print("\nlosses: " + (report.losses(results, latency) or "none, every target is kept"))
    print("\n".join(f"WRONG {complaint}" for complaint in wrong) if wrong else "answers: right")
    answer = {"answer": "wrong" if wrong else "right"}
    print(orjson.dumps(report.last_line(results, latency) | answer).decode(), flush=True)
    return not wrong


def main() -> int:
    """The command line; the exit status."""
    chosen = sizes()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stamp = machine.stamp()
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
            results, latency = run(chosen, Path(folder))
    except (Broken, OperatorError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    right = show(results, latency, stamp)
    if chosen.results is not None:
        kept = {
            "machine": stamp,
            "sizes": chosen.as_dict(),
            "figures": report.last_line(results, latency) | {"answer": "right" if right else "wrong"},
            "cases": [result.as_dict() for result in results],
            "latency": latency and asdict(latency),
        }
        keep(kept, chosen.results)
        if chosen.results == KEPT:
            tables.write()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
