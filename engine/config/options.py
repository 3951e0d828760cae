"""Declarations of all options: name with the unit last, type, default, allowed values, documentation.

`engine.config.load` reads and checks values by these declarations; `engine.reference.options` writes their documentation.
`load_settings` returns valid values only, so no code checks them again.

Options marked ``decides`` change decisions and make up `Settings.config_hash`. The table's size isn't one of them: it matters
only when a table is full, and a worker with more memory must not appear as another configuration.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from engine.config import validators
from engine.config.alert_options import AlertOptions
from engine.config.edge_options import EdgeOptions
from engine.config.kafka_options import KafkaOptions
from engine.config.option import Option, option


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """Names and sizes of the topics. They apply at creation; `tidegate topics` compares them with the cluster."""

    prefix: str = option("", "prefix of all topic names", validate=validators.kafka_name)
    partitions: int = option(
        4,
        "partitions of the connections and state topics; can't be changed while state exists",
        low=1,
        high=1024,
        decides=True,
    )
    retention_ms: int = option(
        7 * 24 * validators.HOUR_MS,
        "retention of the connections topic; -1: unlimited, required for imported history",
        validate=validators.retention,
    )
    replication: int = option(1, "replication factor of all topics; use 3 in production", low=1, high=9)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """A worker of the engine. Workers with the same app_id share the partitions."""

    app_id: str = option(
        "tidegate", "consumer group; its workers share the partitions", validate=validators.required_name
    )
    rows_per_partition: int = option(
        1 << 20,
        "senders tracked per partition, 145 bytes each; rounded up to a power of two",
        low=1024,
        high=1 << 26,
    )
    event_time_window_s: int = option(
        86_400,
        "largest difference between an event's own time and its record's timestamp; beyond it the record's is used",
        low=1,
        high=10 * 366 * 86_400,
        decides=True,
    )
    checkpoint_interval_ms: int = option(
        5_000,
        "longest interval between checkpoints; after a crash the next worker reads again from the last one",
        low=50,
        high=600_000,
    )
    checkpoint_dirty_rows: int = option(
        500_000, "number of changed rows that triggers an earlier checkpoint", low=1, high=1 << 27
    )
    fetch_bytes: int = option(
        2 << 20, "largest fetch from a partition, which is the size of a block", low=64 << 10, high=8 << 20
    )
    session_timeout_s: int = option(
        6, "a worker without heartbeats for this long loses its partitions", low=6, high=300
    )
    status_file: str = option("", "file for a JSON snapshot of the worker's counters; empty: none")
    status_interval_ms: int = option(500, "interval of status_file", low=50, high=600_000)
    http: str = option(
        "127.0.0.1:10090",
        "listen addresses of page, status and metrics, HOST:PORT, comma-separated; empty: none",
        validate=validators.internet_listeners,
    )
    http_advertised: str = option(
        "",
        "URL at which other workers reach this worker's page; empty: worker.http, with this host's name if that listens on all "
        "addresses",
        validate=validators.page_address,
    )
    http_token: str = option(
        "",
        "token that allows to exempt and release senders on the page; empty: the page is read-only; prefer the environment",
        validate=validators.token,
        secret=True,
    )
    standby_replicas: int = option(
        1, "standby copies of each partition's state on other workers, for a fast takeover", low=0, high=8
    )
    instance_id: str = option(
        "",
        "static group membership: a restart with the same id moves no partition; empty: dynamic",
        validate=validators.kafka_name,
    )


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The detector. Its other constants are measured, not configured."""

    detector: str = option(
        "peak-memory",
        "river: a second detector for replays and comparisons, configured by [river]",
        choices=("peak-memory", "river"),
        decides=True,
        hashed_if_set=True,
    )
    sensitivity: str = option(
        "normal",
        "budget: percentage of regular mail that may be deferred, as a number or low (0.1), normal (0.5), high (1); "
        "off: publish no decisions",
        validate=validators.sensitivity,
        decides=True,
        reloads=True,
    )
    wide_pools: str = option(
        "live",
        "pool rule for newcomers in one /16 (IPv6: /48): live throttles, shadow counts only, off disables it",
        choices=("live", "shadow", "off"),
        decides=True,
        reloads=True,
    )
    mode: str = option(
        "enforce",
        "shadow: decisions are published as shadow, and edges log and count deferrals without applying them",
        choices=("enforce", "shadow"),
        decides=True,
        reloads=True,
        hashed_if_set=True,
    )
    shadow_reasons: str = option(
        "",
        "shadow mode for decisions with these reasons only: volume, probation, pool; comma-separated",
        validate=validators.own_reasons,
        decides=True,
        reloads=True,
        hashed_if_set=True,
    )
    shadow_networks: str = option(
        "",
        "shadow mode for decisions on networks that overlap these only, CIDR, comma-separated",
        validate=validators.networks,
        decides=True,
        reloads=True,
        hashed_if_set=True,
    )
    learning_days: int = option(
        7,
        "longest learning period of a new site, in which it publishes no decisions; usually it ends after two or three "
        "days; 0 for a site whose history is replayed first",
        low=0,
        high=366,
        decides=True,
        reloads=True,
    )

    guard: str = option(
        "on",
        "circuit breaker: while throttles hit unusually many known senders, no new throttle is issued, and throttles of known "
        "senders issued since the excess began are withdrawn",
        choices=("on", "off"),
        decides=True,
        hashed_if_set=True,
    )

    @property
    def budget_percent(self) -> float:
        """Return the percentage of regular mail that may be deferred."""
        budget = validators.SENSITIVITIES.get(self.sensitivity)
        return float(self.sensitivity) if budget is None else budget

    @property
    def decides(self) -> bool:
        """Return True if decisions are published."""
        return self.sensitivity != "off"


@dataclass(frozen=True, slots=True)
class RiverOptions:
    """Second detector (model.detector = "river"): an anomaly pipeline of river over closed windows, in replays only."""

    pipeline: str = option(
        "gaussian",
        "gaussian, half-space-trees, or module:callable that returns a pipeline",
        validate=validators.pipeline,
        decides=True,
        hashed_if_set=True,
    )
    score: float = option(
        0.999,
        "lowest anomaly score of a window that throttles its sender",
        low=0,
        high=1e9,
        decides=True,
        hashed_if_set=True,
    )
    window_s: int = option(600, "length of a window", low=10, high=86_400, decides=True, hashed_if_set=True)
    keys: int = option(100_000, "senders tracked per partition, some kilobytes each", low=1, high=10_000_000)


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """Reply to a throttled sender, after code 451."""

    text: str = option(
        "Server busy. Please try again later from [{ip}].",
        "text for the sender's postmaster; {retry_s}: seconds until one more message may pass",
        validate=validators.reply_text,
        reloads=True,
    )
    status_volume: str = option(
        "4.7.500",
        "enhanced status code for a known sender above its own volume",
        validate=validators.status,
        reloads=True,
    )
    status_probation: str = option(
        "4.7.501", "enhanced status code for a newcomer above its limit", validate=validators.status, reloads=True
    )
    status_pool: str = option(
        "4.7.502", "enhanced status code for a newcomer in a pool of many", validate=validators.status, reloads=True
    )
    status_override: str = option(
        "4.7.503", "enhanced status code for a manual throttle", validate=validators.status, reloads=True
    )


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """The broker that `up` and `demo` start if kafka.bootstrap is empty."""

    data_dir: str = option("", "folder for its data; empty: broker in $TIDEGATE_CACHE_DIR, else in ~/.cache/tidegate")
    port: int = option(0, "port on 127.0.0.1; 0: any free port", low=0, high=65_535)
    heap_mb: int = option(512, "Java heap size", low=128, high=65_536)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The log on standard error."""

    level: str = option("info", "lowest level that is logged", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class Settings:
    """All options, checked. `engine.config.load.load_settings` makes it."""

    kafka: KafkaOptions = KafkaOptions()  # noqa: RUF009 (frozen, as all sections are)
    topics: TopicOptions = TopicOptions()
    worker: WorkerOptions = WorkerOptions()
    model: ModelOptions = ModelOptions()
    river: RiverOptions = RiverOptions()
    reply: ReplyOptions = ReplyOptions()
    edge: EdgeOptions = EdgeOptions()  # noqa: RUF009 (frozen, as all sections are)
    notify: AlertOptions = AlertOptions()  # noqa: RUF009 (frozen, as all sections are)
    local: BrokerOptions = BrokerOptions()
    log: LogOptions = LogOptions()
    relays: validators.Networks = field(default_factory=dict)  # networks by relay name

    def config_hash(self) -> str:
        """Return the SHA-256, in hex, of the options that change decisions as canonical JSON."""
        values = {
            option: getattr(getattr(self, option.section), option.name) for option in OPTIONS if option.rule.decides
        }
        hashed: dict[str, Any] = {
            option.path: value
            for option, value in values.items()
            if not option.rule.hashed_if_set or value != option.default
        }
        hashed["relays"] = self.relays
        return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


SECTIONS: dict[str, type] = {
    "kafka": KafkaOptions, "topics": TopicOptions, "worker": WorkerOptions, "model": ModelOptions, "river": RiverOptions,
    "reply": ReplyOptions, "edge": EdgeOptions, "notify": AlertOptions, "local": BrokerOptions, "log": LogOptions,
}  # fmt: skip
KINDS = {"int": int, "float": float, "str": str}


def _declared() -> Iterator[Option]:
    for section, declaration in SECTIONS.items():
        for declared in dataclasses.fields(declaration):
            kind = KINDS[cast(str, declared.type)]
            yield Option(section, declared.name, kind, cast(Any, declared.default), declared.metadata["rule"])


OPTIONS: tuple[Option, ...] = tuple(_declared())
