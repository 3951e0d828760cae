"""Pools over several partitions: the share of a crowd that each asks for, against no rule, an unscaled one, and exact counts.

    python benchmarks/detection/pool_shares.py [--partitions 1,4,8,32]

Exact counts are what a topic of pools could give at no delay: every partition's own decisions without pools, and beside them
the pool decisions of one partition that sees everything. Releases are left out: a throttle ends by itself.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from benchmarks.detection.traces import Trace, pooled, scored, traces
from engine.config.load import load_settings
from engine.detector.constants import POOL_KEYS
from engine.detector.pools import min_new_keys
from engine.pipeline.build import composer, partition
from engine.pipeline.replay import Replay
from topics.decisions import THROTTLE, Decision, encode_decision

NONE = 0.0


def throttles(trace: Trace, partitions: int, keys: float) -> list[Decision]:
    """The throttles on a trace when a pool is suspicious from so many new keys on, in each of ``partitions``."""
    settings = load_settings(None, {}, {"topics.partitions": partitions})
    parts = [partition(settings, number) for number in range(partitions)]
    for part in parts:
        part.policy = part.policy._replace(pool_keys=(keys, keys))
    engine = Replay(parts, composer(settings))
    with gzip.open(trace.events) as source:
        found = [decision for block in engine.run(cast(BinaryIO, source)) for decision in block]
    return [decision for decision in found if decision.verdict == THROTTLE]


def exact(trace: Trace, partitions: int) -> list[Decision]:
    """The throttles with pools counted over all partitions at once."""
    pools = [decision for decision in throttles(trace, 1, min_new_keys(1)) if "pool" in decision.evidence]
    return sorted([*throttles(trace, partitions, NONE), *pools], key=lambda decision: decision.issued)


def cell(found: Iterable[tuple[Trace, list[Decision]]]) -> str:
    """Attack mail admitted / mean over kinds / episodes detected @ legitimate mail deferred."""
    with tempfile.TemporaryDirectory() as scratch:
        reports = [scored(trace, map(encode_decision, decisions), 0, Path(scratch)) for trace, decisions in found]
        row = pooled(reports)
    shares = " / ".join(f"{100 * row[name]:.1f}" for name in ("attack_admitted", "mean_kind_admitted", "recall"))
    return f"{shares} @ {row['legit_deferred']:.2%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", default="1,4,8,32")
    known = traces()
    print("| partitions | no pool rule | share of K | 24 everywhere | exact counts |\n|---|---|---|---|---|")
    for count in map(int, parser.parse_args().partitions.split(",")):
        cells = [
            cell((trace, throttles(trace, count, keys)) for trace in known)
            for keys in (NONE, min_new_keys(count), POOL_KEYS)
        ]
        cells.append(cell((trace, exact(trace, count)) for trace in known))
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
