"""Topics that lose records, gain partitions, or accept records too slowly."""

from __future__ import annotations

import time

import psutil

from benchmarks.harness.topic_space import delete_topics
from tests.system.faults import cluster
from tests.system.faults.arena import Arena, Ground
from tests.system.faults.brokers import refusal
from tests.system.faults.catalogue import Catalogue
from tests.system.faults.verdict import Gap, rows_to_restore
from topics.contracts import STATE

CHANGELOGS = Catalogue()
COMPACT_NOW = {
    "cleanup.policy": "compact",
    "segment.bytes": str(1 << 20),
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}
SLOW_BYTES_PER_S = 100_000
MAX_GROWTH_MB = 200


@CHANGELOGS.fault(short=1, whole=1, ground=Ground(partitions=1))
def events_deleted_unread(arena: Arena, times: int) -> None:
    """Retention deletes unread events of a stopped worker: it continues with the first remaining one (OffsetOutOfRange)."""
    source, bootstrap = arena.source, arena.space.bootstrap
    source.send(20_000)
    worker = arena.start()
    arena.settle()
    arena.stop(worker)
    source.send(20_000)  # more than are deleted: the first remaining offset is inside a batch
    cluster.delete_records(bootstrap, arena.space.connections, 35_000)
    arena.gap = Gap(20_000, 15_000)
    arena.start()


@CHANGELOGS.fault(short=1, whole=1, ground=Ground())
def changelog_emptied(arena: Arena, times: int) -> None:
    """The changelog is deleted and created again while offsets are committed: the state is built again from all events."""
    arena.source.send(30_000)
    worker = arena.start()
    arena.settle()
    arena.stop(worker)
    delete_topics(arena.space, [STATE.name])
    arena.create_topics()
    arena.start()


@CHANGELOGS.fault(short=0, whole=3, ground=Ground(events=200_000))
def changelog_compacted(arena: Arena, times: int) -> None:
    """The broker compacts the changelog, transaction markers included, while it is written; then kill -9."""
    topic = arena.space.prefix + STATE.name
    cluster.configure(arena.space.bootstrap, topic, COMPACT_NOW)
    written = 0
    with arena.flow(5_000):
        for _ in range(times):
            worker = arena.start(static=True)
            arena.until_working(worker)
            time.sleep(4)
            written += sum(shard["checkpoint_rows"] for shard in worker.status["partitions"].values())
            arena.kill(worker)
        worker = arena.start(static=True)  # aborts a transaction that the kill may have left open
        arena.until_working(worker)
        arena.until(lambda: rows_to_restore(arena.settings) < 0.7 * written, "compaction", 60)
    arena.notes["written"], arena.notes["left"] = written, rows_to_restore(arena.settings)
    arena.kill(worker)
    arena.start(static=True)


@CHANGELOGS.fault(short=0, whole=20, ground=Ground(events=300_000, keys=50_000))
def changelog_slow(arena: Arena, seconds: int) -> None:
    """Seconds in which a quota allows a fraction of the checkpoint writes: memory stays bounded, then the worker catches up."""
    arena.source.send(50_000)
    worker = arena.start()
    arena.settle()
    process = psutil.Process(worker.process.pid)
    cluster.limit(arena.space.bootstrap, "producer_byte_rate", SLOW_BYTES_PER_S)
    try:
        before_mb = max_mb = process.memory_info().rss / 1e6
        with arena.flow(8_000):
            deadline_s = time.monotonic() + seconds
            while time.monotonic() < deadline_s:
                max_mb = max(max_mb, process.memory_info().rss / 1e6)
                time.sleep(0.1)
            lag = sum(arena.shown(n, "applied") - arena.shown(n, "durable") for n in range(4))
    finally:
        cluster.limit(arena.space.bootstrap, "producer_byte_rate", None)
    arena.notes.update(growth_mb=round(max_mb - before_mb), events_behind=lag)
    if max_mb - before_mb > MAX_GROWTH_MB:
        arena.complaints.append(f"memory grew from {before_mb:.0f} to {max_mb:.0f} MB")
    if not lag:
        arena.complaints.append("the quota slowed nothing down")


@CHANGELOGS.fault(short=0, whole=1, ground=Ground())
def partition_count_changed(arena: Arena, times: int) -> None:
    """The connections topic gets two more partitions: a worker refuses to start, in one line, with status 2."""
    arena.source.rest()
    worker = arena.start()
    arena.settle()
    arena.stop(worker)
    cluster.add_partitions(arena.space.bootstrap, arena.space.connections, 6)
    refusal(arena, "has 6 partitions, this configuration expects 4")
