"""Everything that may break around a worker, broken: `python benchmarks/faults/bench.py` or `make faults`.

One question a fault: is every event counted once, is the state restored from the changelog a plain replay's, and does no
decision get lost or go backwards? Real processes on an embedded broker; the faults are those of `tests/system/faults`.
Then: how fast is state restored, how long does a take-over last, what do checkpoints cost? Progress goes to standard error,
the report to standard output; its last line is one JSON object. Exit status: 0, 1 if something was lost, doubled or taken
back, 2 when something broke down. A full run takes about twenty minutes and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.faults.bench import measures as fault_measures
from benchmarks.faults.measures import MeasureSizes, checkpoint_cost, recovery, takeover
from benchmarks.harness import machine
from benchmarks.harness.errors import Broken
from benchmarks.harness.results import FOLDER, keep
from engine.broker import EmbeddedBroker
from tests.system.faults.all import FAULTS
from tests.system.faults.catalogue import Fault, Outcome, inflict
from tests.system.faults.cluster import BROKER_SETTINGS
from tests.system.faults.verdict import Verdict
from topics.errors import OperatorError

STARTED_S = time.monotonic()
HEAD = (
    "fault", "times or s", "events offered", "counted", "lost", "doubled", "decisions", "regressions", "repeats", "seconds"
)  # fmt: skip
TARGETS = {
    "restore_rows_per_s": (1e6, True),
    "checkpoint_cost_share": (0.15, False),
    "takeover_s": (10.0, False),
    "standby_promotion_s": (1.0, False),
    "rolling_restart_stall_s": (5.0, False),
}


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED_S:6.1f} s] {text}", file=sys.stderr, flush=True)


def injected(chosen: Sequence[Fault], broker: EmbeddedBroker, folder: Path, *, short: bool) -> Iterator[Outcome]:
    """Inject faults one after the other; one that breaks down is a complaint, and the others go on."""
    for fault in chosen:
        amount = (fault.short or 1) if short else fault.whole
        say(f"{fault.name} × {amount}: {fault.sentence}")
        try:
            outcome = inflict(fault, amount, broker, folder)
        except Exception as error:  # noqa: BLE001 (told in the report, and in the exit status)
            traceback.print_exc()
            outcome = Outcome(fault, amount, Verdict(0, complaints=[f"{type(error).__name__}: {error}"]), 0.0, {})
            if not broker.running:
                broker.start()
        say(f"  {outcome.skipped or ('good' if outcome.verdict.good else outcome.verdict.complaints)} {outcome.notes}")
        yield outcome


def row(outcome: Outcome) -> str:
    """A fault's line of the table."""
    verdict = outcome.verdict
    counts = [verdict.offered, verdict.counted, verdict.lost, verdict.doubled, verdict.decisions]
    counts += [verdict.regressions, verdict.repeats]
    name = f"{outcome.fault.name} (skipped: {outcome.skipped})" if outcome.skipped else outcome.fault.name
    return f"| {name} | {outcome.amount} | {' | '.join(f'{count:,}' for count in counts)} | {outcome.seconds:.1f} |"


def report(outcomes: Sequence[Outcome], figures: dict[str, Any]) -> Iterator[str]:
    """The table, what each fault does, what went wrong, and the figures that fall short."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---" + "|---:" * (len(HEAD) - 1) + "|"
    yield from map(row, outcomes)
    yield ""
    for outcome in outcomes:
        yield f"{outcome.fault.name}: {outcome.fault.sentence}{f' {outcome.notes}' if outcome.notes else ''}"
        yield from (f"  WRONG {complaint}" for complaint in outcome.verdict.complaints)
    yield ""
    for name, (bound, at_least) in TARGETS.items():
        figure = figures.get(name)
        if figure is not None and (figure < bound if at_least else figure > bound):
            yield f"falls short: {name} is {figure:g}, wanted {'at least' if at_least else 'at most'} {bound:g}"


def last_line(outcomes: Sequence[Outcome], measures: dict[str, Any]) -> dict[str, Any]:
    """The figures by name; None for what wasn't measured."""
    done = [outcome for outcome in outcomes if not outcome.skipped]
    recovered, cost, taken = (measures.get(name) for name in ("recovery", "checkpoint_cost", "takeover"))
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
        "rolling_restart_stall_s": max((outcome.notes.get("longest_stall_s", 0) for outcome in done), default=0)
        or None,
    }


def measured(broker: EmbeddedBroker, folder: Path, sizes: MeasureSizes) -> dict[str, Any]:
    """All measures."""
    found = {}
    for name, measure in (("recovery", recovery), ("takeover", takeover), ("checkpoint_cost", checkpoint_cost)):
        say(f"measuring {name}")
        found[name] = measure(broker, folder, sizes)
        say(f"  {found[name]}")
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/faults/bench.py", description="Break everything around a worker.")
    parser.add_argument("--short", action="store_true", help="each fault once or for a few seconds, small measures")
    parser.add_argument("--only", nargs="*", help="faults whose name has one of these words; none: measures alone")
    parser.add_argument("--no-measures", action="store_true", help="faults alone")
    parser.add_argument("--results", type=Path, default=FOLDER / "faults.ndjson", help="where the result is appended")
    return parser.parse_args()


def run(chosen: argparse.Namespace, folder: Path) -> tuple[list[Outcome], dict[str, Any]]:
    """Inject and measure, each on a broker of its own."""
    wanted = [fault for fault in FAULTS if chosen.only is None or any(word in fault.name for word in chosen.only)]
    measures: dict[str, Any] = {}
    if not chosen.no_measures:
        with EmbeddedBroker(folder / "measures") as broker:
            measures = measured(broker, folder, fault_measures.SMALL if chosen.short else fault_measures.WHOLE)
    with EmbeddedBroker(folder / "faults", settings=BROKER_SETTINGS) as broker:
        return list(injected(wanted, broker, folder, short=chosen.short)), measures


def main() -> int:
    """Run, report, keep; the exit status."""
    chosen = arguments()
    os.environ.setdefault("TIDEGATE_CACHE_DIR", str(Path(__file__).parents[2] / ".cache"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says again and again that a dead broker is dead
    stamp = machine.stamp()
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-faults-") as folder:
            outcomes, measures = run(chosen, Path(folder))
    except (Broken, OperatorError) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    line = last_line(outcomes, measures)
    print("\n".join(report(outcomes, line)))
    kept = [
        {"fault": outcome.fault.name, "amount": outcome.amount, "seconds": round(outcome.seconds, 1)}
        | {"notes": outcome.notes, "skipped": outcome.skipped, **vars(outcome.verdict)}
        for outcome in outcomes
    ]
    keep({**stamp, "short": chosen.short, "faults": kept, "measures": measures, "result": line}, chosen.results)
    print(orjson.dumps(line).decode())
    return 0 if all(outcome.verdict.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
