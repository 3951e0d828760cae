"""Tidegate side by side with what a user would take instead: `make bench`, or `python benchmarks/contest/bench.py`.

One broker on this machine; six parts: throughput of everybody on one case (`rounds.py`), of a few on cases that differ in
one thing each, cost against the number of senders (`keycosts.py`), open load (`openload.py`), coming back (`recovery.py`),
several workers (`scaling.py`). Progress goes to standard error, tables to standard output, whose last line is one JSON
object. Exit status: 0, 1 for a wrong answer, 2 when the engine or the harness broke down; a peer that can't be had or breaks
down is left out, and it is said why. Forty minutes and 6 GB of disk; `--small`: minutes.
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

import orjson

from benchmarks.contest import key_costs as keycosts
from benchmarks.contest import open_part as opened
from benchmarks.contest import recovery, rounds, scaling, tables
from benchmarks.contest.figures import Outcome, last_line
from benchmarks.contest.sizes import KEPT, Sizes, sizes
from benchmarks.harness import machine
from benchmarks.harness.errors import Broken
from benchmarks.harness.results import keep
from engine.broker import EmbeddedBroker
from topics.errors import OperatorError

STARTED_S = time.monotonic()


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED_S:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(chosen: Sizes, folder: Path) -> Outcome:
    """All parts, on a broker of their own whose data is in ``folder``."""
    outcome = Outcome()
    with EmbeddedBroker(folder / "broker") as broker:
        say(f"broker ready at {broker.bootstrap}")
        if "throughput" in chosen.parts:
            outcome.cases.append(rounds.run_case(chosen.main_case(), chosen.rounds, broker.bootstrap, folder, say))
        if "grid" in chosen.parts:
            outcome.cases += [rounds.run_case(case, 1, broker.bootstrap, folder, say) for case in chosen.grid()]
        if "keys" in chosen.parts:
            outcome.key_costs += keycosts.run(chosen, broker.bootstrap, folder, say)
        if "open" in chosen.parts:
            outcome.opened += opened.run(chosen, broker.bootstrap, folder, say)
        if "recovery" in chosen.parts:
            outcome.recoveries += recovery.run(chosen, broker.bootstrap, folder, say)
    if "scaling" in chosen.parts:
        outcome.scaled += scaling.run(chosen, folder, say)
    return outcome


def main() -> int:
    """The command line; the exit status."""
    chosen = sizes()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of each topic that is new
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stamp = machine.stamp()
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
            outcome = run(chosen, Path(folder))
    except (Broken, OperatorError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    answer = {"answer": "wrong" if outcome.wrong else "right"}
    figures = last_line(outcome) | answer
    kept = {"machine": stamp, "sizes": chosen.as_dict(), "figures": figures} | outcome.as_dict()
    print("\n".join(tables.lines(kept)))
    print("\n".join(f"WRONG {complaint}" for complaint in outcome.wrong) if outcome.wrong else "answers: right")
    if chosen.results is not None:
        keep(kept, chosen.results)
        if chosen.results == KEPT:
            tables.write()
    print(orjson.dumps(figures).decode(), flush=True)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
