"""Compare Tidegate with what a user would use instead: `make bench`, or `python -m benchmarks.contest.bench`.

One broker on this machine; six parts: throughput of all contenders on one case (`rounds`), of a few on cases that differ in
one thing each, cost by the number of senders (`key_costs`), open load (`open_part`), restarts (`recovery`), several workers
(`scaling`). Progress goes to standard error, tables to standard output, whose last line is one JSON object. Exit status: 0,
1 for a wrong answer, 2 when the engine or the benchmark failed. A contender that isn't available or fails is left out, and
the table says why. Takes forty minutes and 6 GB of disk; with --small four minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import key_costs, open_part, recovery, rounds, scaling, tables
from benchmarks.contest.figures import Outcome, last_line
from benchmarks.contest.sizes import Sizes, given_sizes, sizes_of
from benchmarks.harness import command
from benchmarks.harness.command import Report, log_progress
from engine.broker import EmbeddedBroker


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure all parts that were asked for."""
    chosen = sizes_of(given)
    with EmbeddedBroker(folder / "broker") as broker:
        log_progress(f"broker ready at {broker.bootstrap}")
        outcome = measure_parts(chosen, broker.bootstrap, folder)
    if "scaling" in chosen.parts:
        outcome.scaled += scaling.run(chosen, folder)
    return Report(last_line(outcome), outcome.as_dict(), tables.lines, wrong=outcome.wrong, write_pages=tables.write)


def measure_parts(chosen: Sizes, bootstrap: str, folder: Path) -> Outcome:
    """Measure the parts that share a broker."""
    outcome = Outcome()
    if "throughput" in chosen.parts:
        outcome.cases.append(rounds.run_case(chosen.main_case(), chosen.rounds, bootstrap, folder))
    if "grid" in chosen.parts:
        outcome.cases += [rounds.run_case(case, 1, bootstrap, folder) for case in chosen.grid()]
    if "keys" in chosen.parts:
        outcome.key_costs += key_costs.run(chosen, bootstrap, folder)
    if "open" in chosen.parts:
        outcome.opened += open_part.run(chosen, bootstrap, folder)
    if "recovery" in chosen.parts:
        outcome.recoveries += recovery.run(chosen, bootstrap, folder)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return command.run(measure, given_sizes(__doc__, arguments))


if __name__ == "__main__":
    sys.exit(main())
