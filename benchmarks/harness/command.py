"""The command line that benchmarks share: common options, progress, one line per error, JSON in the last line.

Exit status: 0; 1 for a wrong answer; 2 if a program under test or the benchmark itself failed. With ``--small`` a run takes
seconds, checks the answers and keeps nothing.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.harness.errors import Broken, WrongAnswer
from benchmarks.harness.machine import machine_record
from benchmarks.harness.results import FOLDER, Target, keep
from topics.errors import OperatorError

UNKEPT = ("small", "results")  # options that are no sizes


@dataclass
class Report:
    """The outcome of a run."""

    figures: dict[str, Any]  # the last line; kept
    kept: dict[str, Any] = field(default_factory=dict)  # kept next to the figures
    show: Callable[[dict[str, Any]], Iterable[str]] = lambda _: ()  # lines for standard output, from the whole result
    targets: Sequence[Target] = ()  # those that aren't kept are printed
    wrong: Sequence[str] = ()  # one line each; any of them makes the exit status 1
    write_pages: Callable[[], None] | None = None  # called once the result is in the project's own results


Measure = Callable[[argparse.Namespace, Path], Report]


def new_parser(about: str | None, results: Path | None, *, small: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that benchmarks share; ``about`` is a module's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if small:
        parser.add_argument("--small", action="store_true", help="take seconds: check the answers, keep no result")
    parser.add_argument("--results", type=Path, default=results, help="append the result to this file")
    return parser


def parse(
    parser: argparse.ArgumentParser, small: Mapping[str, Any], arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the command line. With ``--small`` the defaults are ``small`` and no result is kept."""
    if parser.parse_args(arguments).small:
        parser.set_defaults(**small, results=None)
    return parser.parse_args(arguments)


def log_progress(text: str) -> None:
    """Print a line with the process's age to standard error."""
    print(f"[{time.time() - psutil.Process().create_time():6.1f} s] {text}", file=sys.stderr, flush=True)


def run(measure: Measure, given: argparse.Namespace) -> int:
    """Measure in a temporary folder, print the report and keep it. Returns the exit status."""
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns about each new topic
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = machine_record()
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
            report = measure(given, Path(folder))
    except (Broken, OperatorError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1 if isinstance(error, WrongAnswer) else 2
    sizes = {name: value for name, value in vars(given).items() if not isinstance(value, Path) and name not in UNKEPT}
    result = {"machine": machine, "sizes": sizes, "figures": report.figures, **report.kept}
    lines = [*report.show(result)]
    lines += [f"falls short: {target.text()}" for target in report.targets if not target.is_kept]
    lines += [f"WRONG {complaint}" for complaint in report.wrong] or ["answers: right"]
    print("\n".join(lines))
    if given.results is not None:
        keep(result, given.results)
        if report.write_pages and given.results.parent == FOLDER:
            report.write_pages()
    print(orjson.dumps(report.figures).decode(), flush=True)
    return 1 if report.wrong else 0
