"""What a load needs: cores, workers, memory, disk and the options that say so, from measured costs of one worker.

A linear model. It assumes, and is wrong where it doesn't hold, that

- partitions share nothing: n workers take n times what one takes, and an event costs several no more than one;
- keys are spread evenly: a sender with half of the traffic has one partition, and so one worker at most;
- the brokers keep up, and have cores of their own; workers with standbys read the others' changelogs besides;
- every sender is a newcomer, the dearest case, and your cores are as quick as those measured.

An event costs more the more senders there are, as more rows miss the processor's caches: between the measured points, and
beyond them, a straight line over the logarithm. A test holds all this against the last contest (benchmarks/README.md).
What your machines need, `make bench` tells.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from engine.config.options import Settings
from topics.errors import OperatorError

MEASURED = ((10_000, 0.85), (200_000, 0.97), (1_000_000, 1.59), (10_000_000, 2.09))
"""Senders, and CPU seconds a million events: lz4, AMD EPYC."""
BUSIEST_CORES = 1.25  # that one worker keeps busy: its tables are changed by one thread
OCTETS_AN_EVENT = 64  # on disk and on the wire, lz4
BASE_MB = 300  # a worker without a sender
RESTORED_PER_S = 900_000  # rows that a worker restores
FULLEST = 0.8  # of a table: above, newcomers begin to wait
SESSION_S = 6.4  # from a worker's death to its partitions' new owners
MOST_ROWS = 1 << 26


@dataclass(frozen=True)
class Load:
    """``events_per_s`` at the peak, of ``keys`` senders known at a time; ``busy``: the share of a worker's rate that the peak
    may take; ``cpu_s_per_million``: as measured on your machine, else 0."""

    events_per_s: float
    keys: int
    busy: float = 0.6
    cpu_s_per_million: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a load needs. ``workers``: with one to spare; ``rows_per_partition``: the least that will do; ``worker_mb``: with
    those that are set, if they are more; ``restore_s``: from a worker's death until another has its partitions."""

    cpu_s_per_million: float
    cores: float
    worker_events_per_s: float
    workers: int
    partitions: int
    rows_per_partition: int
    worker_mb: float
    topic_gb: float | None
    network_mb_per_s: float
    restore_s: float


def cost(keys: int) -> float:
    """CPU seconds a million events with so many senders; with fewer than were measured, as with the fewest that were."""
    at = bisect.bisect([senders for senders, _ in MEASURED[:-1]], keys, lo=1)
    (few, cheap), (many, dear) = MEASURED[at - 1], MEASURED[at]
    slope = (dear - cheap) / math.log(many / few)
    return cheap + max(0.0, slope * math.log(max(keys, 1) / few))


def rows_of(keys: int, partitions: int) -> int:
    """The least table, a power of two, that holds a partition's share of so many senders without being too full."""
    return 1 << max(10, math.ceil(math.log2(max(1.0, keys / partitions / FULLEST))))


def plan(load: Load, settings: Settings, octets_a_row: int) -> Plan:
    """The plan for a load with these settings; a row of a table takes ``octets_a_row``. `OperatorError` if no setting fits."""
    partitions, retention_ms = settings.topics.partitions, settings.topics.retention_ms
    cpu_s = load.cpu_s_per_million or cost(load.keys)
    one = BUSIEST_CORES / cpu_s * 1e6
    workers = math.ceil(load.events_per_s / (one * load.busy)) + 1
    needed = max(partitions, workers)
    rows = rows_of(load.keys, needed)
    if rows > MOST_ROWS:
        raise OperatorError(
            f"{load.keys:,} senders don't fit into {needed} partitions: plan with more of them (topics.partitions)"
        )
    kept = max(rows, settings.worker.rows_per_partition)
    owned = math.ceil(needed / max(1, workers - 1))
    return Plan(
        cpu_s_per_million=cpu_s,
        cores=load.events_per_s * cpu_s / 1e6,
        worker_events_per_s=one,
        workers=workers,
        partitions=needed,
        rows_per_partition=rows,
        worker_mb=BASE_MB + owned * kept * octets_a_row / 1e6,
        topic_gb=None if retention_ms < 0 else load.events_per_s * retention_ms / 1000 * OCTETS_AN_EVENT / 1e9,
        network_mb_per_s=load.events_per_s * OCTETS_AN_EVENT / 1e6,
        restore_s=SESSION_S + load.keys / needed * owned / RESTORED_PER_S,
    )
