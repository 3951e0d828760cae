"""What a change has gained: a worker as it was beside one as it is, on one topic, by turns (`make bench-gain`).

    make bench-gain ARGS="--before HEAD~1 --what 'what it was'"

``--before`` is a commit, a folder with the project as it was or a patch of rejected/; ``--after`` the same, else this tree.
Both read the same topic with the same interpreter and packages, whole, one after the other, round after round, and both must
give the right answer; their kernels are timed alone too, on blocks in memory. With ``--rate`` they are under open load instead,
and what is told is the time to a decision. A ratio is that of one round, after to before: of rates more is better, of all
else less. With ``--keep`` the result is a line of results/gains.ndjson. The last line of output is one JSON object. Exit
status: 0, 1 for a wrong answer, 2 when something broke down.
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchmarks import answers, cluster, machine
from benchmarks.cluster import Place
from benchmarks.contest import starting
from benchmarks.contest.openload import SteadyLoad, latency
from benchmarks.engine_runs import run_floors, watch_engine
from benchmarks.engine_worker import measured
from benchmarks.errors import Broken
from benchmarks.report import spread
from benchmarks.results import FOLDER, keep
from benchmarks.workload import Workload
from engine.broker import EmbeddedBroker
from topics.errors import OperatorError

KEPT = FOLDER / "gains.ndjson"
ROOT = Path(__file__).resolve().parents[1]
SIDES = ("before", "after")
CLOSED = ("events_per_s", "cpu_s_per_million", "checkpoint_s", "rss_most_mb", "detect_us", "scan_us", "unpack_us")
OPEN = ("p50_ms", "p99_ms", "p999_ms", "most_ms")
SIZES = ("events", "keys", "codec", "rounds", "rate", "seconds")
REGULARS = 500_000
Figures = dict[str, float]


class Ground(NamedTuple):
    """A filled topic, the benchmark's folder, and the right answer: how many events, which decisions."""

    place: Place
    folder: Path
    events: int
    expected: Sequence[answers.Published]


def tree(source: str, folder: Path) -> Path:
    """The project as ``source`` has it: a folder, a commit, or a patch, whose first line names its base; else `Broken`."""
    if Path(source).is_dir():
        return Path(source).resolve()
    patch = Path(source) if source.endswith(".patch") else None
    commit = patch.read_text(encoding="utf-8").splitlines()[0].removeprefix("base ") if patch else source
    done = subprocess.run(
        ["git", "archive", commit, "--", "topics", "engine"], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        raise Broken(f"{source} is neither a folder nor of a commit: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    if patch:
        command = ["git", "apply", "--unsafe-paths", "--directory", str(folder), str(patch.resolve())]
        applied = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if applied.returncode:
            raise Broken(f"{source} doesn't apply to {commit}: {applied.stderr.strip()}")
    return folder


def closed(ground: Ground, source: Path) -> tuple[Figures, list[str]]:
    """Run a tree's worker over the topic, then its kernels; the figures, and what is wrong."""
    place, path = ground.place, {"PYTHONPATH": str(source)}
    run = measured(*watch_engine(place, ground.folder, **path))
    kernels = run_floors(place, **path)["kernels"]
    found = {f"{name}_us": kernels[f"{name}_s_per_million"] for name in ("detect", "scan", "unpack")}
    found |= {name: getattr(run, name) for name in CLOSED if name not in found}
    return found, answers.complaints(place, run, ground.events, ground.expected)


def opened(bootstrap: str, load: SteadyLoad, folder: Path, source: Path) -> tuple[Figures, list[str]]:
    """Have a tree's worker under open load; the figures, and what is wrong."""
    with starting.ground(bootstrap) as place:
        found = latency(starting.engine(folder, PYTHONPATH=str(source)), place, load)
    return {name: getattr(found, name) for name in OPEN}, found.complaints


def measure(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, list[Figures]], list[str]]:
    """Every round, and what was wrong."""
    wrong: list[str] = []
    turns: dict[str, list[Figures]] = {side: [] for side in SIDES}
    trees = {side: tree(getattr(chosen, side), folder / side) for side in SIDES}
    with EmbeddedBroker(folder / "broker") as broker:
        if chosen.rate:
            turn = partial(opened, broker.bootstrap, SteadyLoad(chosen.rate, chosen.seconds, REGULARS), folder)
        else:
            turn = partial(closed, filled(chosen, broker.bootstrap, folder))
        for number in range(chosen.rounds):
            for side in SIDES if number % 2 else SIDES[::-1]:
                found, complaints = turn(trees[side])
                turns[side].append(found)
                wrong += [f"{side}: {each}" for each in complaints]
                told = ", ".join(f"{name} {value:,.3f}" for name, value in found.items())
                print(f"{side} {number + 1}: {told}; {complaints or 'right'}", file=sys.stderr, flush=True)
    return turns, wrong


def filled(chosen: argparse.Namespace, bootstrap: str, folder: Path) -> Ground:
    """The topic that both read."""
    place, workload = Place(bootstrap, "gain-"), Workload(chosen.events, chosen.keys)
    cluster.make_topics(place)
    cluster.fill(place, workload, chosen.codec)
    return Ground(place, folder, chosen.events, answers.replayed(place, workload, folder))


def ratios(turns: dict[str, list[Figures]], name: str) -> list[float]:
    """After to before, round by round."""
    return [
        after[name] / max(before[name], 1e-9) for before, after in zip(turns["before"], turns["after"], strict=True)
    ]


def lines(turns: dict[str, list[Figures]]) -> list[str]:
    """A Markdown table: median (least–most) of each figure."""
    rows = [["figure", *SIDES, "after to before"], ["---", *["---:"] * 3]]
    rows += [
        [name, *(spread([each[name] for each in turns[side]]) for side in SIDES), spread(ratios(turns, name))]
        for name in turns[SIDES[0]][0]
    ]
    return [f"| {' | '.join(row)} |" for row in rows]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-gain", description="A worker as it was beside one as it is.")
    parser.add_argument("--before", required=True, help="a commit, a folder or a patch")
    parser.add_argument("--after", default=str(ROOT), help="the same as it is; without it: this tree")
    parser.add_argument("--what", default="", help="the change in words, for the result")
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--keys", type=int, default=200_000, help="senders, drawn uniformly")
    parser.add_argument("--codec", default="lz4", choices=("none", "lz4", "zstd"))
    parser.add_argument("--rounds", type=int, default=5, help="an odd number gives a median that was measured")
    parser.add_argument("--rate", type=int, default=0, help="events a second of an open load: latency instead of rates")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long it lasts")
    parser.add_argument("--keep", action="store_true", help="append the result to results/gains.ndjson")
    return parser.parse_args()


def main() -> int:
    """Measure and tell; the exit status."""
    chosen = arguments()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of each topic that is new
    stamp, sizes = machine.stamp(), {name: getattr(chosen, name) for name in SIZES}
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-gain-") as folder:
            turns, wrong = measure(chosen, Path(folder))
    except (Broken, OperatorError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    figures: dict[str, Any] = {
        f"ratio_{name}": round(statistics.median(ratios(turns, name)), 3) for name in turns[SIDES[0]][0]
    }
    figures["answer"] = "wrong" if wrong else "right"
    print("\n".join([*lines(turns), *(f"WRONG {each}" for each in wrong)]))
    if chosen.keep:
        said = {"machine": stamp, "what": chosen.what, "base": chosen.before, "sizes": sizes, "figures": figures}
        keep(said | turns, KEPT)
    print(orjson.dumps(figures).decode())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
