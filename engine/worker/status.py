"""The worker's status: the one source of the page, the metrics and the alerts, read from the state on request.

It is also written as a JSON file, replaced as a whole, for the demo, the benchmarks and a shell. Nothing is counted for it
while events are applied.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from engine.config.load import Settings
from engine.detector.budget import percent_of
from engine.detector.constants import OBSERVED_SHARE
from engine.worker.apply import BlockApplier
from engine.worker.shard import Shard

COUNTS = (  # fields of the partition's site
    "events",
    "late",
    "poison",
    "throttles",
    "releases",
    "suppressed",
    "pool_shadowed",
    "pool_over_limit",
    "breaker_trips",
    "breaker_withdrawn",
    "untracked",
    "evicted",
    "miskeyed",
)
EndOffset = Callable[[int], int | None]  # end of a partition of the connections, None while unknown


def status_of(applier: BlockApplier, end_offset: EndOffset) -> dict[str, Any]:
    """Return totals over this worker's partitions, its counts since the start, and the figures of each partition."""
    shards = list(applier.shards)
    partitions = {
        str(shard.partition.number): _partition(shard, end_offset(shard.partition.number)) for shard in shards
    }
    return {
        "time_ms": int(time.time() * 1000),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "config": applier.composer.config,
        "shadow": str(applier.composer.shadow),
        "ending": applier.ending,
        "keys": sum(shard.partition.keys for shard in shards),
        **{name: sum(int(shard.partition.state.site[name][0]) for shard in shards) for name in COUNTS},
        "since_start": _flow(applier),
        "partitions": partitions,
        "restoring": {
            str(number): {"rows": shard.timing.restored_rows, "share": round(shard.timing.restored_share, 4)}
            for number, shard in applier.shards.restoring().items()
        },
        "standbys": {
            str(replica.partition.number): {"keys": replica.partition.keys, "rows": replica.restoration.rows}
            for replica in applier.shards.standbys()
        },
    }


def _flow(applier: BlockApplier) -> dict[str, Any]:
    flow = applier.flow
    return {
        "blocks": flow.blocks,
        "records": flow.records,
        "duplicates": flow.duplicates,
        "slow": flow.slow,
        "deleted": flow.deleted,
        "throttles": flow.throttles,
        "releases": flow.releases,
        "withheld": flow.withheld,
        "withdrawn": flow.withdrawn,
        "reasons": dict(flow.reasons),
        "in_shadow": dict(flow.shadows),
        "decision_s": {"p50": flow.latency.quantile(0.5), "p99": flow.latency.quantile(0.99)},
        "busy_s": round(flow.busy_s, 4),
        "cpu_s": round(time.process_time(), 4),
        "rss_most_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _partition(shard: Shard, end: int | None) -> dict[str, Any]:
    partition, timing = shard.partition, shard.timing
    site, opened, state = partition.state.site[0], shard.opened[0], partition.state
    applied, clock_ms = partition.applied_offset, int(site["clock_ms"])
    lag = None if end is None else max(0, end - 1 - applied)
    last_ms = shard.record_time_ms or clock_ms
    lag_s = max(0.0, time.time() - last_ms / 1000) if lag and last_ms else 0.0
    return {
        "applied": applied,
        "durable": shard.durable_offset,
        "lag": lag,
        "lag_s": round(lag_s, 3),
        "clock_ms": clock_ms,
        "decides": partition.decides,
        "breaker_tripped_ms": partition.breaker_tripped_ms,
        "threshold": round(partition.threshold, 4),
        "established": _established(site, partition.policy.threshold),
        "keys": partition.keys,
        "capacity": len(state.rows),
        "pools": int(state.pools.cursor["rows"][0]),
        "throttled": int(state.cursor["throttled"][0]),
        "dirty": partition.dirty,
        "checkpoints": timing.checkpoints,
        "checkpoint_rows": timing.checkpoint_rows,
        "checkpoint_s": round(timing.checkpoint_s, 4),
        "checkpoint_bytes": timing.checkpoint_bytes,
        "checkpoint_age_s": _age_s(shard, applied),
        "restored_rows": timing.restored_rows,
        "restore_s": round(timing.restore_s, 4),
        "since_takeover": {name: int(site[name]) - int(opened[name]) for name in COUNTS},
    }


def _established(site: Any, threshold: float) -> dict[str, float]:
    """Return known senders' messages and an estimate of the deferred ones (90-day decay), their share and its budget."""
    messages, deferred = float(site["budget_demand"]), float(site["budget_charged"]) / OBSERVED_SHARE
    return {
        "messages": round(messages, 3),
        "deferred": round(deferred, 3),
        "share": round(deferred / messages, 6) if messages else 0.0,
        "budget": round(percent_of(threshold) / 100, 6),
    }


def _age_s(shard: Shard, applied: int) -> float:
    """Return the seconds of events that the next worker would read again after a crash now."""
    return round(time.monotonic() - shard.durable_at_s, 3) if applied > shard.durable_offset else 0.0


class StatusWriter:
    """Write the status to worker.status_file every worker.status_interval_ms; nothing if no file is set."""

    def __init__(self, applier: BlockApplier, settings: Settings, end_offset: EndOffset) -> None:
        self._applier, self._end_offset = applier, end_offset
        self._path = Path(settings.worker.status_file) if settings.worker.status_file else None
        self._interval_s = settings.worker.status_interval_ms / 1000

    async def run(self) -> None:
        """Write until cancelled."""
        while self._path is not None:
            self.write(self._path)
            await asyncio.sleep(self._interval_s)

    def write(self, path: Path) -> None:
        """Replace the file atomically."""
        new = path.with_name(path.name + ".new")
        new.write_bytes(orjson.dumps(status_of(self._applier, self._end_offset)))
        new.replace(path)
