"""The worker's Prometheus metrics, computed from its status and from the latencies that the engine keeps.

Counters by partition start at 0 when this worker takes the partition over, so a sum of rates over all workers stays right
while partitions move. `tidegate status` has the totals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, Histogram, MetricDeclaration, Sample

PREFIX = "tidegate_"


def _declare(name: str, kind: str, meaning: str, *labels: str) -> MetricDeclaration:
    return MetricDeclaration(PREFIX + name, kind, meaning, labels)


def _by_partition(name: str, kind: str, meaning: str) -> MetricDeclaration:
    return _declare(name, kind, meaning, "partition")


INFO = _declare(
    "worker_info",
    GAUGE,
    "Always 1; the labels have the version and the hash of the configuration.",
    "version",
    "config",
)
PARTITIONS = _declare("partitions", GAUGE, "Partitions that this worker owns.")
BLOCKS = _declare("blocks", COUNTER, "Fetched blocks applied.")
RECORDS = _declare("records", COUNTER, "Records in the blocks applied.")
DUPLICATES = _declare("events_duplicate", COUNTER, "Records read again and skipped, because they were applied before.")
SLOW = _declare("events_slow", COUNTER, "Records that the fast scan passed to the full JSON parser.")
DELETED = _declare("events_deleted", COUNTER, "Records that retention deleted before they were read.")
BUSY = _declare("detecting_seconds", COUNTER, "Seconds spent on applying blocks.")
RELEASES = _declare("releases", COUNTER, "Releases published: throttles that ended early.")
THROTTLES = _declare("throttles", COUNTER, "Throttles published, without those in shadow mode, by reason.", "reason")
IN_SHADOW = _declare("in_shadow", GAUGE, "1 while the configuration puts some or all decisions in shadow mode, else 0.")
SHADOW_DECISIONS = _declare("shadow_decisions", COUNTER, "Throttles published in shadow mode, by reason.", "reason")
LATENCY = _declare(
    "decision_latency_seconds", HISTOGRAM, "Seconds from an event's timestamp to the publication of its throttle."
)
NOTICES = _declare("notifications", COUNTER, "Notifications by channel and outcome.", "channel", "outcome")

EVENTS = _by_partition("events", COUNTER, "Connection events applied, each counted once.")
LATE = _by_partition(
    "events_late", COUNTER, "Events whose timestamp is too far from their record's; counted at the record's time."
)
POISON = _by_partition("events_poison", COUNTER, "Records that are not an event; sent to the dead letters.")
MISKEYED = _by_partition("events_miskeyed", COUNTER, "New senders whose records arrived in the wrong partition.")
UNTRACKED = _by_partition("events_untracked", COUNTER, "Events of senders without a row.")
EVICTED = _by_partition("evictions", COUNTER, "Rows evicted from a full table.")
SUPPRESSED = _by_partition(
    "suppressed_throttles",
    COUNTER,
    "Throttles not published, because the site learns, only watches, or its breaker is open.",
)
POOL_SHADOWED = _by_partition(
    "pool_shadowed_events", COUNTER, "Events that the /16 pool rule would throttle outside shadow mode."
)
POOL_OVER_LIMIT = _by_partition(
    "pool_over_limit_events", COUNTER, "Events not throttled, because there are too many pool throttles already."
)
TRIPS = _by_partition("breaker_trips", COUNTER, "Trips of the circuit breaker.")
WITHDRAWN = _by_partition("breaker_withdrawn_throttles", COUNTER, "Throttles that the circuit breaker withdrew.")

LAG_S = _by_partition(
    "consumer_lag_seconds", GAUGE, "Seconds since the timestamp of the last applied record; 0 without lag."
)
KEYS = _by_partition("keys", GAUGE, "Senders that have a row.")
POOLS = _by_partition("pools", GAUGE, "Pools that have a row.")
THROTTLED = _by_partition("throttled_senders", GAUGE, "Senders with an active throttle, in shadow mode or not.")
DECIDES = _by_partition("decides", GAUGE, "1 while decisions are published, 0 while the site learns or only watches.")
THRESHOLD = _by_partition(
    "threshold", GAUGE, "Threshold T that scales all limits: that of the sensitivity, adjusted to the site."
)
DIRTY = _by_partition("checkpoint_dirty_rows", GAUGE, "Rows changed since the last checkpoint was started.")
CHECKPOINTS = _by_partition("checkpoints", COUNTER, "Checkpoints written.")
CHECKPOINT_ROWS = _by_partition("checkpoint_rows", COUNTER, "Rows in the checkpoints written.")
CHECKPOINT_S = _by_partition(
    "checkpoint_seconds", COUNTER, "Seconds spent on checkpoints, from their start to the end of their transaction."
)
CHECKPOINT_BYTES = _by_partition("checkpoint_size_bytes", GAUGE, "Size of the last checkpoint, uncompressed.")
CHECKPOINT_AGE = _by_partition(
    "checkpoint_age_seconds", GAUGE, "Seconds of events that would be read again after a crash."
)
RESTORE_ROWS = _by_partition("restore_rows", GAUGE, "Rows that the takeover has read from the changelog.")
RESTORE_S = _by_partition("restore_seconds", GAUGE, "Seconds that the takeover took.")

LAG = _by_partition("consumer_lag_events", GAUGE, "Events on the topic that are not applied yet.")
FILL = _by_partition("table_fill_ratio", GAUGE, "Share of the table's rows in use; at 1 newcomers are evicted.")
RESTORED = _by_partition(
    "restore_progress_ratio", GAUGE, "Share of the changelog that the takeover has read; 1 when it is finished."
)
TRIPPED = _by_partition(
    "breaker_tripped", GAUGE, "1 while the circuit breaker is open and no throttle is issued, else 0."
)
MESSAGES = _by_partition("established_messages", GAUGE, "Messages of known senders (90-day decay).")
DEFERRED = _by_partition(
    "established_deferred_messages", GAUGE, "Estimated messages deferred of those of known senders (90-day decay)."
)
BUDGET = _by_partition("established_budget_ratio", GAUGE, "Share of known senders' messages that may be deferred.")
STANDBY_KEYS = _by_partition("standby_keys", GAUGE, "Senders in the copy of a partition that another worker owns.")

BY_FLOW = {  # by name in the status' `since_start`
    "blocks": BLOCKS,
    "records": RECORDS,
    "duplicates": DUPLICATES,
    "slow": SLOW,
    "deleted": DELETED,
    "busy_s": BUSY,
    "releases": RELEASES,
}
BY_COUNT = {  # by name in a partition's `since_takeover`
    "events": EVENTS,
    "late": LATE,
    "poison": POISON,
    "miskeyed": MISKEYED,
    "untracked": UNTRACKED,
    "evicted": EVICTED,
    "suppressed": SUPPRESSED,
    "pool_shadowed": POOL_SHADOWED,
    "pool_over_limit": POOL_OVER_LIMIT,
    "breaker_trips": TRIPS,
    "breaker_withdrawn": WITHDRAWN,
}
BY_PARTITION = {  # by name in a partition's status
    "lag_s": LAG_S,
    "keys": KEYS,
    "pools": POOLS,
    "throttled": THROTTLED,
    "decides": DECIDES,
    "threshold": THRESHOLD,
    "dirty": DIRTY,
    "checkpoints": CHECKPOINTS,
    "checkpoint_rows": CHECKPOINT_ROWS,
    "checkpoint_s": CHECKPOINT_S,
    "checkpoint_bytes": CHECKPOINT_BYTES,
    "checkpoint_age_s": CHECKPOINT_AGE,
    "restored_rows": RESTORE_ROWS,
    "restore_s": RESTORE_S,
}
METRICS = (
    *(INFO, PARTITIONS, *BY_FLOW.values()),
    *(THROTTLES, IN_SHADOW, SHADOW_DECISIONS, LATENCY, NOTICES),
    *BY_COUNT.values(),
    *BY_PARTITION.values(),
    *(LAG, FILL, RESTORED, TRIPPED, MESSAGES, DEFERRED, BUDGET, STANDBY_KEYS),
)
OWN_REASONS = ("volume", "probation", "pool")
REASONS = (*OWN_REASONS, "override")


def samples(status: dict[str, Any], latency: Histogram, outcomes: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    """Yield all samples of a worker. ``outcomes``: notifications by channel and outcome."""
    since = status["since_start"]
    yield Sample(INFO, 1, (version("tidegate"), status["config"]))
    yield Sample(PARTITIONS, len(status["partitions"]))
    for name, metric in BY_FLOW.items():
        yield Sample(metric, since[name])
    for reason in sorted({*REASONS, *since["reasons"]}):
        yield Sample(THROTTLES, since["reasons"].get(reason, 0), (reason,))
    yield Sample(IN_SHADOW, int(bool(status["shadow"])))
    for reason in sorted({*OWN_REASONS, *since["in_shadow"]}):
        yield Sample(SHADOW_DECISIONS, since["in_shadow"].get(reason, 0), (reason,))
    yield Sample(LATENCY, latency)
    for labels, count in outcomes.items():
        yield Sample(NOTICES, count, labels)
    for number, partition in status["partitions"].items():
        yield from _partition_samples(partition, (number,))
    for number, restoring in status["restoring"].items():
        yield Sample(RESTORED, restoring["share"], (number,))
        yield Sample(RESTORE_ROWS, restoring["rows"], (number,))
    for number, standby in status["standbys"].items():
        yield Sample(STANDBY_KEYS, standby["keys"], (number,))


def _partition_samples(partition: dict[str, Any], labels: tuple[str]) -> Iterator[Sample]:
    for name, metric in BY_COUNT.items():
        yield Sample(metric, partition["since_takeover"][name], labels)
    for name, metric in BY_PARTITION.items():
        yield Sample(metric, partition[name], labels)
    if partition["lag"] is not None:
        yield Sample(LAG, partition["lag"], labels)
    yield Sample(FILL, partition["keys"] / partition["capacity"], labels)
    yield Sample(RESTORED, 1.0, labels)
    yield Sample(TRIPPED, int(partition["breaker_tripped_ms"] is not None), labels)
    established = partition["established"]
    yield Sample(MESSAGES, established["messages"], labels)
    yield Sample(DEFERRED, established["deferred"], labels)
    yield Sample(BUDGET, established["budget"], labels)
