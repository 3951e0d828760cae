"""The worker's status as a JSON file, replaced as a whole: for the demo's screen, the benchmarks, and a look from a shell."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path
from typing import Any

import orjson

from engine.config import Settings
from engine.stream.engine import Engine

COUNTS = (
    "events",
    "late",
    "poison",
    "throttles",
    "releases",
    "shadows",
    "shadowed",
    "trips",
    "withdrawn",
    "overcrowded",
    "untracked",
    "evicted",
    "miskeyed",
)


def status_of(engine: Engine) -> dict[str, Any]:
    """Counts over all partitions of this worker, what it did since it started, and each partition's offsets."""
    shards = list(engine.shards)
    flow = engine.flow
    return {
        "time_ms": int(time.time() * 1000),
        "pid": os.getpid(),
        "keys": sum(shard.partition.keys for shard in shards),
        **{name: sum(int(shard.partition.state.site[name][0]) for shard in shards) for name in COUNTS},
        "since_start": {
            "blocks": flow.blocks,
            "records": flow.records,
            "slow": flow.slow,
            "deleted": flow.deleted,
            "throttles": flow.throttles,
            "releases": flow.releases,
            "withheld": flow.withheld,
            "withdrawn": flow.withdrawn,
            "busy_s": round(flow.busy_s, 4),
            "cpu_s": round(time.process_time(), 4),
            "rss_most_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        },
        "partitions": {
            str(shard.partition.number): {
                "applied": shard.partition.applied_offset,
                "durable": shard.durable_offset,
                "clock_ms": int(shard.partition.state.site["clock_ms"][0]),
                "decides": shard.partition.decides,
                "guard_tripped_ms": shard.partition.tripped_ms,
                "threshold": round(shard.partition.threshold, 4),
                "keys": shard.partition.keys,
                "pools": int(shard.partition.state.pools.cursor["rows"][0]),
                "dirty": shard.partition.dirty,
                "checkpoints": shard.timing.checkpoints,
                "checkpoint_rows": shard.timing.checkpoint_rows,
                "checkpoint_s": round(shard.timing.checkpoint_s, 4),
                "restored_rows": shard.timing.restored_rows,
                "restore_s": round(shard.timing.restore_s, 4),
            }
            for shard in shards
        },
        "standbys": {
            str(replica.partition.number): {"keys": replica.partition.keys, "rows": replica.restoration.rows}
            for replica in engine.shards.standbys()
        },
    }


class StatusWriter:
    """Writes the status to ``worker.status_file`` every ``worker.status_interval_ms``; nothing without a file."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._path = Path(settings.worker.status_file) if settings.worker.status_file else None
        self._interval_s = settings.worker.status_interval_ms / 1000

    async def run(self) -> None:
        """Write until cancelled."""
        while self._path is not None:
            self.write(self._path)
            await asyncio.sleep(self._interval_s)

    def write(self, path: Path) -> None:
        """Replace the file in one move."""
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(orjson.dumps(status_of(self._engine)))
        fresh.replace(path)
