"""The worker's figures for Prometheus, made of a status and of the latencies that the engine keeps.

Counters by partition begin at 0 when this worker takes the partition over, so that sums of rates over workers are right while
partitions move; `tidegate status` has what was ever counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from engine.metrics.exposition import COUNTER, GAUGE, HISTOGRAM, Declared, Histogram, Sample

PREFIX = "tidegate_"


def _declared(name: str, kind: str, meaning: str, *labels: str) -> Declared:
    return Declared(PREFIX + name, kind, meaning, labels)


def _of_partition(name: str, kind: str, meaning: str) -> Declared:
    return _declared(name, kind, meaning, "partition")


INFO = _declared("worker_info", GAUGE, "Always 1; its labels say what runs.", "version", "config")
PARTITIONS = _declared("partitions", GAUGE, "Partitions that this worker owns.")
BLOCKS = _declared("blocks", COUNTER, "Fetched blocks applied.")
RECORDS = _declared("records", COUNTER, "Records in the blocks applied.")
DUPLICATES = _declared("events_duplicate", COUNTER, "Records delivered again and passed over: already applied.")
SLOW = _declared("events_slow", COUNTER, "Records that the fast scan handed to the full JSON parser.")
DELETED = _declared("events_deleted", COUNTER, "Records that retention deleted before they were read.")
BUSY = _declared("detecting_seconds", COUNTER, "Seconds spent on applying blocks.")
THROTTLES = _declared("throttles", COUNTER, "Throttle decisions published, none in shadow, by reason.", "reason")
SHADOW_DECISIONS = _declared(
    "shadow_decisions", COUNTER, "Throttle decisions published as being in shadow, by reason.", "reason"
)
IN_SHADOW = _declared("in_shadow", GAUGE, "1 while some or all decisions are in shadow by configuration, else 0.")
RELEASES = _declared("releases", COUNTER, "Throttles that ended and were published as released.")
LATENCY = _declared(
    "decision_latency_seconds", HISTOGRAM, "Seconds from an event's time to the throttle that it led to, on its way."
)

NOTICES = _declared("notifications", COUNTER, "Notifications by channel and what became of them.", "channel", "outcome")

EVENTS = _of_partition("events", COUNTER, "Connection events applied and counted, each once.")
LATE = _of_partition(
    "events_late", COUNTER, "Events stamped too far from their record's time, counted at the record's."
)
POISON = _of_partition("events_poison", COUNTER, "Records that are no event, sent to the dead letters.")
MISKEYED = _of_partition(
    "events_miskeyed", COUNTER, "New senders whose records came in a partition which isn't theirs."
)
UNTRACKED = _of_partition("events_untracked", COUNTER, "Events of senders without a row of their own.")
EVICTED = _of_partition("evictions", COUNTER, "Rows evicted from a full table.")
SHADOWS = _of_partition("shadow_throttles", COUNTER, "Throttles not published: the site learns, or only watches.")
SHADOWED = _of_partition(
    "shadow_pool_events", COUNTER, "Events that the /16 rule would have answered if it weren't in shadow."
)
OVERCROWDED = _of_partition("overcrowded_events", COUNTER, "Events of crowds beyond the limit on throttles for crowds.")
TRIPS = _of_partition("breaker_trips", COUNTER, "Times that the fleet guard's breaker tripped.")
WITHDRAWN = _of_partition("breaker_withdrawn_throttles", COUNTER, "Throttles that it took back.")
OF_STATE = {
    "events": EVENTS,
    "late": LATE,
    "poison": POISON,
    "miskeyed": MISKEYED,
    "untracked": UNTRACKED,
    "evicted": EVICTED,
    "shadows": SHADOWS,
    "shadowed": SHADOWED,
    "overcrowded": OVERCROWDED,
    "trips": TRIPS,
    "withdrawn": WITHDRAWN,
}

LAG = _of_partition("consumer_lag_events", GAUGE, "Events on the topic that are not applied yet.")
LAG_S = _of_partition(
    "consumer_lag_seconds", GAUGE, "Seconds since the time of the newest applied record; 0 without lag."
)
KEYS = _of_partition("keys", GAUGE, "Senders that have a row.")
FILL = _of_partition("table_fill_ratio", GAUGE, "Share of the table's rows in use; full is 1, and evicts newcomers.")
POOLS = _of_partition("pools", GAUGE, "Networks of newcomers that have a row.")
THROTTLED = _of_partition("throttled_senders", GAUGE, "Senders whose throttle has not lapsed, in shadow or not.")
DECIDES = _of_partition("decides", GAUGE, "1 when decisions are published, 0 while the site learns or only watches.")
TRIPPED = _of_partition("breaker_tripped", GAUGE, "1 while the breaker has tripped and no throttles are made, else 0.")
THRESHOLD = _of_partition("threshold", GAUGE, "T in force, which scales all limits: the knob's as the site leans.")
MESSAGES = _of_partition("established_messages", GAUGE, "Messages of known senders, fading over 90 days.")
DEFERRED = _of_partition("established_deferred_messages", GAUGE, "About how many of those were deferred, fading alike.")
BUDGET = _of_partition("established_budget_ratio", GAUGE, "Share of known senders' messages that may be deferred.")
DIRTY = _of_partition("checkpoint_dirty_rows", GAUGE, "Rows changed since the last checkpoint was cut.")
CHECKPOINTS = _of_partition("checkpoints", COUNTER, "Checkpoints written.")
CHECKPOINT_ROWS = _of_partition("checkpoint_rows", COUNTER, "Rows in the checkpoints written.")
CHECKPOINT_S = _of_partition("checkpoint_seconds", COUNTER, "Seconds from the cut to the end of its transaction.")
CHECKPOINT_BYTES = _of_partition("checkpoint_size_bytes", GAUGE, "Size of the last checkpoint, uncompressed.")
CHECKPOINT_AGE = _of_partition(
    "checkpoint_age_seconds", GAUGE, "Seconds of events that a crash would make be read again."
)
RESTORED = _of_partition(
    "restore_progress_ratio", GAUGE, "Share of the changelog that a take-over has read; 1 when ready."
)
RESTORE_ROWS = _of_partition("restore_rows", GAUGE, "Rows that the take-over has read from the changelog.")
RESTORE_S = _of_partition("restore_seconds", GAUGE, "Seconds that the take-over took.")
STANDBY_KEYS = _of_partition("standby_keys", GAUGE, "Senders in the copy that this worker keeps for another one.")
OF_PARTITION = {
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
    "checkpoint_octets": CHECKPOINT_BYTES,
    "checkpoint_age_s": CHECKPOINT_AGE,
    "restored_rows": RESTORE_ROWS,
    "restore_s": RESTORE_S,
}
OF_FLOW = {
    "blocks": BLOCKS,
    "records": RECORDS,
    "duplicates": DUPLICATES,
    "slow": SLOW,
    "deleted": DELETED,
    "busy_s": BUSY,
    "releases": RELEASES,
}
OWN_REASONS = ("volume", "probation", "pool")
REASONS = (*OWN_REASONS, "override")
METRICS = tuple(value for value in globals().values() if isinstance(value, Declared))


def samples(status: dict[str, Any], latency: Histogram, outcomes: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    """All figures of a worker. ``outcomes``: notifications by channel and what became of them."""
    since = status["since_start"]
    yield Sample(INFO, 1, (version("tidegate"), status["config"]))
    yield Sample(PARTITIONS, len(status["partitions"]))
    for name, metric in OF_FLOW.items():
        yield Sample(metric, since[name])
    for reason in sorted({*REASONS, *since["reasons"]}):
        yield Sample(THROTTLES, since["reasons"].get(reason, 0), (reason,))
    yield Sample(IN_SHADOW, int(bool(status["shadow"])))
    for reason in sorted({*OWN_REASONS, *since["in_shadow"]}):
        yield Sample(SHADOW_DECISIONS, since["in_shadow"].get(reason, 0), (reason,))
    yield Sample(LATENCY, latency)
    for labels, count in outcomes.items():
        yield Sample(NOTICES, count, labels)
    for number, found in status["partitions"].items():
        yield from _of_one(found, (number,))
    for number, found in status["restoring"].items():
        yield Sample(RESTORED, found["share"], (number,))
        yield Sample(RESTORE_ROWS, found["rows"], (number,))
    for number, found in status["standbys"].items():
        yield Sample(STANDBY_KEYS, found["keys"], (number,))


def _of_one(found: dict[str, Any], labels: tuple[str]) -> Iterator[Sample]:
    for name, metric in OF_STATE.items():
        yield Sample(metric, found["since_taken"][name], labels)
    for name, metric in OF_PARTITION.items():
        yield Sample(metric, found[name], labels)
    if found["lag"] is not None:
        yield Sample(LAG, found["lag"], labels)
    yield Sample(FILL, found["keys"] / found["capacity"], labels)
    yield Sample(RESTORED, 1.0, labels)
    yield Sample(TRIPPED, int(found["guard_tripped_ms"] is not None), labels)
    established = found["established"]
    yield Sample(MESSAGES, established["messages"], labels)
    yield Sample(DEFERRED, established["deferred"], labels)
    yield Sample(BUDGET, established["budget"], labels)
