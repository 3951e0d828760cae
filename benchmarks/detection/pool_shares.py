"""Pools over several partitions: each partition's share of a pool, compared with no rule, an unscaled one, and exact counts.

    python -m benchmarks.detection.pool_shares [--partitions 1 4 8 32]

Exact counts are what a topic of pools could give without delay: every partition's own decisions without pools, and the pool
decisions of one partition that sees all events. Releases are left out, because a throttle ends by itself.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from benchmarks.detection.traces import Trace, pooled, scored, traces
from benchmarks.harness import command
from benchmarks.harness.command import Report, log_progress
from benchmarks.harness.results import table
from engine.config.load import load_settings
from engine.detector.constants import POOL_KEYS
from engine.detector.pools import min_new_keys
from engine.pipeline.build import composer, partition
from engine.pipeline.replay import Replay
from topics.decisions import THROTTLE, Decision, encode_decision

NO_POOLS = 0.0
HEAD = "partitions | no pool rule | share of K | 24 everywhere | exact counts"


def throttles(trace: Trace, partitions: int, keys: float) -> list[Decision]:
    """Return the throttles on a trace if so many new keys make a pool suspicious, in each of ``partitions``."""
    settings = load_settings(None, {}, {"topics.partitions": partitions})
    parts = [partition(settings, number) for number in range(partitions)]
    for part in parts:
        part.policy = part.policy._replace(pool_keys=(keys, keys))
    engine = Replay(parts, composer(settings))
    with gzip.open(trace.events) as source:
        found = [decision for block in engine.run(cast(BinaryIO, source)) for decision in block]
    return [decision for decision in found if decision.verdict == THROTTLE]


def exact(trace: Trace, partitions: int) -> list[Decision]:
    """Return the throttles with pools counted over all partitions together."""
    pools = [decision for decision in throttles(trace, 1, min_new_keys(1)) if "pool" in decision.evidence]
    return sorted([*throttles(trace, partitions, NO_POOLS), *pools], key=lambda decision: decision.issued)


def cell(found: Iterable[tuple[Trace, list[Decision]]], folder: Path) -> str:
    """Return attack mail admitted / mean over kinds / episodes detected @ legitimate mail deferred."""
    row = pooled([scored(trace, map(encode_decision, decisions), 0, folder) for trace, decisions in found])
    shares = " / ".join(f"{100 * row[name]:.1f}" for name in ("attack_admitted", "mean_kind_admitted", "recall"))
    return f"{shares} @ {row['legit_deferred']:.2%}"


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Score all rules at each number of partitions."""
    known, rows = traces(), []
    for count in given.partitions:
        rules = (NO_POOLS, min_new_keys(count), POOL_KEYS)
        cells = [cell(((trace, throttles(trace, count, keys)) for trace in known), folder) for keys in rules]
        cells.append(cell(((trace, exact(trace, count)) for trace in known), folder))
        rows.append([str(count), *cells])
        log_progress(f"{count} partitions: scored")
    columns = HEAD.split(" | ")
    figures = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}
    return Report(figures, show=lambda _: table(HEAD, rows))


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 4, 8, 32])
    parser.set_defaults(results=None)
    return command.run(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
