"""Break everything that can break around a worker: `make faults`.

One question per fault: is every event counted once, is the state restored from the changelog that of a plain replay, and is
no decision lost, or published out of order? Real processes on an embedded broker; the faults are those of
`tests/system/faults`. Then: how fast is state restored, how long does a takeover last, what do checkpoints cost? Takes about
twenty minutes and 5 GB of disk. Exit status: 0; 1 if something was lost, counted twice or out of order; 2 on other failures.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import measures
from benchmarks.faults.measures import MeasureSizes, checkpoint_cost, recovery, takeover
from benchmarks.harness import command
from benchmarks.harness.command import Report, log_progress, new_parser
from benchmarks.harness.results import FOLDER, Target, table
from engine.broker import EmbeddedBroker
from tests.system.faults.all import FAULTS
from tests.system.faults.catalogue import Fault, Outcome, inflict
from tests.system.faults.cluster import BROKER_SETTINGS
from tests.system.faults.verdict import Verdict

HEAD = "fault | times or s | events offered | counted | lost | doubled | decisions | regressions | repeats | seconds"
BOUNDS = {"checkpoint_cost_share": 0.15, "takeover_s": 10.0, "standby_promotion_s": 1.0, "rolling_restart_stall_s": 5.0}
LEAST_ROWS_PER_S = 1e6


def injected(chosen: Sequence[Fault], broker: EmbeddedBroker, folder: Path, *, short: bool) -> Iterator[Outcome]:
    """Inject faults one after the other; one that raises is a complaint, and the others continue."""
    for fault in chosen:
        amount = (fault.short or 1) if short else fault.whole
        log_progress(f"{fault.name} × {amount}: {fault.sentence}")
        try:
            outcome = inflict(fault, amount, broker, folder)
        except Exception as error:  # noqa: BLE001 (reported, and part of the exit status)
            traceback.print_exc()
            outcome = Outcome(fault, amount, Verdict(0, complaints=[f"{type(error).__name__}: {error}"]), 0.0, {})
            if not broker.running:
                broker.start()
        verdict = outcome.skipped or ("good" if outcome.verdict.good else outcome.verdict.complaints)
        log_progress(f"  {verdict} {outcome.notes}")
        yield outcome


def row(outcome: Outcome) -> list[str]:
    """Return a fault's row of the table."""
    verdict = outcome.verdict
    counts = [verdict.offered, verdict.counted, verdict.lost, verdict.doubled, verdict.decisions]
    counts += [verdict.regressions, verdict.repeats]
    name = f"{outcome.fault.name} (skipped: {outcome.skipped})" if outcome.skipped else outcome.fault.name
    return [name, f"{outcome.amount}", *(f"{count:,}" for count in counts), f"{outcome.seconds:.1f}"]


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Return the table, and a line about each fault."""
    yield from table(HEAD, [row(outcome) for outcome in outcomes])
    yield ""
    for outcome in outcomes:
        yield f"{outcome.fault.name}: {outcome.fault.sentence}{f' {outcome.notes}' if outcome.notes else ''}"


def complaints(outcome: Outcome) -> list[str]:
    """Return what a fault broke, one line each."""
    verdict = outcome.verdict
    counts = {"lost": verdict.lost, "counted twice": verdict.doubled, "out of order": verdict.regressions}
    found = [f"{outcome.fault.name}: {count:,} {what}" for what, count in counts.items() if count]
    return found + [f"{outcome.fault.name}: {complaint}" for complaint in verdict.complaints]


def last_line(outcomes: Sequence[Outcome], measured: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by name; None for what wasn't measured."""
    done = [outcome for outcome in outcomes if not outcome.skipped]
    recovered, cost, taken = (measured.get(name) for name in ("recovery", "checkpoint_cost", "takeover"))
    stalls = [outcome.notes.get("longest_stall_s", 0) for outcome in done]
    return {
        "faults": sum(outcome.amount for outcome in done),
        "kinds": len(done),
        "skipped": len(outcomes) - len(done),
        **{
            name: sum(getattr(outcome.verdict, name) for outcome in done)
            for name in ("offered", "counted", "lost", "doubled", "regressions", "repeats")
        },
        "complaints": sum(len(outcome.verdict.complaints) for outcome in done),
        "restore_rows_per_s": recovered and round(recovered["rows_per_s"]),
        "standby_promotion_s": recovered and round(recovered["promotion_s"], 3),
        "checkpoint_cost_share": cost and round(cost["share"], 4),
        "takeover_s": taken and round(taken["median_s"], 2),
        "rolling_restart_stall_s": max(stalls, default=0) or None,
    }


def measure_all(folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """Take all measures, on a broker of their own."""
    found = {}
    with EmbeddedBroker(folder / "measures") as broker:
        for name, measure_one in (("recovery", recovery), ("takeover", takeover), ("checkpoint_cost", checkpoint_cost)):
            log_progress(f"measuring {name}")
            found[name] = measure_one(broker, folder, sizes)
            log_progress(f"  {found[name]}")
    return found


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Measure and inject, each on a broker of its own."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it reports repeatedly that a dead broker is dead
    wanted = [fault for fault in FAULTS if given.only is None or any(word in fault.name for word in given.only)]
    measured: dict[str, Any] = {}
    if not given.no_measures:
        measured = measure_all(folder, measures.SMALL if given.short else measures.WHOLE)
    with EmbeddedBroker(folder / "faults", settings=BROKER_SETTINGS) as broker:
        outcomes = list(injected(wanted, broker, folder, short=given.short))
    figures = last_line(outcomes, measured)
    kept = [
        {"fault": outcome.fault.name, "amount": outcome.amount, "seconds": round(outcome.seconds, 1)}
        | {"notes": outcome.notes, "skipped": outcome.skipped, **vars(outcome.verdict)}
        for outcome in outcomes
    ]
    targets = [Target(name, figures[name], bound) for name, bound in BOUNDS.items() if figures[name] is not None]
    if figures["restore_rows_per_s"] is not None:
        targets.append(Target("restore_rows_per_s", figures["restore_rows_per_s"], LEAST_ROWS_PER_S, at_least=True))
    wrong = [line for outcome in outcomes for line in complaints(outcome)]
    return Report(figures, {"faults": kept, "measures": measured}, lambda _: lines(outcomes), targets, wrong)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = new_parser(__doc__, FOLDER / "faults.ndjson", small=False)
    parser.add_argument("--short", action="store_true", help="each fault once or for a few seconds, small measures")
    parser.add_argument("--only", nargs="*", help="faults whose name has one of these words; none: measures alone")
    parser.add_argument("--no-measures", action="store_true", help="faults alone")
    return command.run(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
