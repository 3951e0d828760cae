"""The detecting kernel alone against a number of known senders: no Kafka, no JSON, one thread, the processor's clock.

Every partition gets one event of each of its senders, then events drawn uniformly of them, which are timed. Prints one JSON
object: ``us_an_event``, ``rss_octets_per_key`` (what the process grew by). A wrong count ends with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.contest.rounds import rows_for
from benchmarks.harness.cluster import PARTITIONS
from benchmarks.harness.traffic import SPAN_MS, START_MS, Traffic
from engine.detector.throttle import Policy
from engine.pipeline.precompile import warm
from engine.state.partition import Partition
from topics.columns.keys import partitions_of_keys
from topics.columns.scan import ACCEPTED, EventColumns, empty_columns

BLOCK = 11_000  # events that the worker applies at a time
DAY_MS = 86_400_000


def columns_of(keys: npt.NDArray[np.uint64], first: int, whole: int) -> EventColumns:
    """An event of each key, in that order: numbers ``first`` and so on of ``whole`` within an hour."""
    columns, place = empty_columns(len(keys)), first + np.arange(len(keys))
    columns.key[:], columns.offset[:] = keys, place
    columns.ts_ms[:] = columns.record_ms[:] = START_MS + place * SPAN_MS // whole
    columns.messages[:], columns.outcome[:] = 1, ACCEPTED
    return columns


def apply(partition: Partition, columns: EventColumns) -> float:
    """Processor seconds of all these events."""
    began_s, count = time.process_time(), len(columns.offset)
    for first in range(0, count, BLOCK):
        partition.apply(columns, first, min(first + BLOCK, count))
    return time.process_time() - began_s


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    chosen = parser.parse_args()
    warm()
    senders, draw, cpu_s = Traffic(1, chosen.keys).senders, np.random.default_rng(1), 0.0
    owner = partitions_of_keys(senders, PARTITIONS)
    grown, partitions = 0, []
    for number in range(PARTITIONS):
        mine, events = senders[owner == number], chosen.events // PARTITIONS
        before = psutil.Process().memory_info().rss
        partition = Partition(Policy(1.0, DAY_MS, number, PARTITIONS), rows_for(chosen.keys))
        for first in range(0, len(mine), BLOCK):
            apply(partition, columns_of(mine[first : first + BLOCK], first, len(mine) + events))
        grown += psutil.Process().memory_info().rss - before
        cpu_s += apply(partition, columns_of(draw.choice(mine, events), len(mine), len(mine) + events))
        partitions.append(partition)
    counted = sum(int(partition.state.site["events"][0]) for partition in partitions)
    known = sum(partition.keys for partition in partitions)
    if (counted, known) != (chosen.keys + chosen.events // PARTITIONS * PARTITIONS, chosen.keys):
        print(f"{counted:,} events of {known:,} senders were counted", file=sys.stderr)
        return 1
    timed = chosen.events // PARTITIONS * PARTITIONS
    print(json.dumps({"us_an_event": cpu_s / timed * 1e6, "rss_octets_per_key": grown / chosen.keys}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
