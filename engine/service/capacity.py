"""Plan a load: cores, workers, memory, disk and the options for them, from the measured costs of one worker.

A linear model. It assumes the following, and is wrong where it doesn't hold:

- Partitions share nothing: n workers take n times the load of one, at the same cost per event.
- Keys are spread evenly. A sender with half of the traffic has one partition, so at most one worker.
- The brokers keep up on cores of their own, and the workers have no standbys (a standby also reads a changelog).
- Every sender is a newcomer, the most expensive case, and your cores are as fast as the measured ones.

An event costs more with more senders, because more rows miss the processor's caches: a straight line over the logarithm,
between the measured points and beyond. A test compares the model with the last contest (benchmarks/README.md). `make bench`
measures your machines.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from engine.config.options import Settings
from topics.errors import OperatorError

# Senders, and CPU seconds per million events: lz4, AMD EPYC.
MEASURED = ((10_000, 0.85), (200_000, 0.97), (1_000_000, 1.59), (10_000_000, 2.09))
BUSIEST_CORES = 1.25  # that one worker keeps busy: one thread changes its tables
EVENT_BYTES = 64  # on disk and on the wire, lz4
BASE_MB = 300  # a worker without a sender
RESTORED_PER_S = 900_000  # rows
FULLEST = 0.8  # share of a table: above, newcomers begin to wait
SESSION_S = 6.4  # from a worker's death to the new assignment of its partitions
MAX_ROWS = 1 << 26


@dataclass(frozen=True)
class Load:
    """The load of a site."""

    events_per_s: float  # at the peak
    keys: int  # senders known at a time
    busy: float = 0.6  # share of a worker's rate that the peak may take
    cpu_s_per_million: float = 0.0  # as measured on your machine, else 0


@dataclass(frozen=True)
class Plan:
    """The needs of a load."""

    cpu_s_per_million: float
    cores: float
    worker_events_per_s: float
    workers: int  # with one to spare
    partitions: int
    rows_per_partition: int  # the minimum
    worker_mb: float  # with the configured rows, if they are more than the minimum
    topic_gb: float | None  # None with unlimited retention
    network_mb_per_s: float
    restore_s: float  # from a worker's death until another has its partitions


def cost(keys: int) -> float:
    """Return the CPU seconds per million events with ``keys`` senders, at least those of the smallest measurement."""
    at = bisect.bisect([senders for senders, _ in MEASURED[:-1]], keys, lo=1)
    (few, cheap), (many, dear) = MEASURED[at - 1], MEASURED[at]
    slope = (dear - cheap) / math.log(many / few)
    return cheap + max(0.0, slope * math.log(max(keys, 1) / few))


def rows_of(keys: int, partitions: int) -> int:
    """Return the smallest table, a power of two, that a partition's share of the senders fills at most to `FULLEST`."""
    return 1 << max(10, math.ceil(math.log2(max(1.0, keys / partitions / FULLEST))))


def plan(load: Load, settings: Settings, row_bytes: int) -> Plan:
    """Return the plan for a load with these settings. A table's row takes ``row_bytes``.

    Raises `OperatorError` if the senders don't fit into any table.
    """
    partitions, retention_ms = settings.topics.partitions, settings.topics.retention_ms
    cpu_s = load.cpu_s_per_million or cost(load.keys)
    one = BUSIEST_CORES / cpu_s * 1e6
    workers = math.ceil(load.events_per_s / (one * load.busy)) + 1
    needed = max(partitions, workers)
    rows = rows_of(load.keys, needed)
    if rows > MAX_ROWS:
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
        worker_mb=BASE_MB + owned * kept * row_bytes / 1e6,
        topic_gb=None if retention_ms < 0 else load.events_per_s * retention_ms / 1000 * EVENT_BYTES / 1e9,
        network_mb_per_s=load.events_per_s * EVENT_BYTES / 1e6,
        restore_s=SESSION_S + load.keys / needed * owned / RESTORED_PER_S,
    )
