"""Every option, declared once: its name with the unit last, type, default, range, and what it is for.

`engine.config.load` reads them from a file, the environment and the command line, and checks them by what stands here;
`engine.reference.options` writes their documentation from it. A value that got into a `Settings` by `load_settings` is valid:
nobody checks it again.

Options marked ``decides`` change decisions and make up `Settings.config_hash`. The table's size is not among them: it
matters only once a table is full, and a worker with more memory should not look like another configuration.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from engine.config import validators as rules
from engine.config.alert_options import Notify
from engine.config.option import Option, option


@dataclass(frozen=True, slots=True)
class Kafka:
    """The cluster, and how to get in."""

    bootstrap: str = option(
        "", "HOST:PORT of a broker, several with commas; empty: `up` and `demo` start their own", wanted=rules.servers
    )
    client_id: str = option(
        "tidegate", "how the cluster's logs and quotas call this client", wanted=rules.required_name
    )
    security_protocol: str = option(
        "PLAINTEXT", "what the listener speaks", choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    )
    ssl_cafile: str = option("", "PEM file with the authority that signed the brokers; empty: the system's")
    sasl_mechanism: str = option(
        "PLAIN", "how to prove who we are", choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
    )
    sasl_username: str = option("", "who we are")
    sasl_password: str = option("", "better in the environment than in a file", secret=True)
    request_timeout_ms: int = option(
        40_000, "a request without an answer for so long has failed", low=1_000, high=600_000
    )

    def client_options(self) -> dict[str, Any]:
        """Keywords for any aiokafka client: consumer, producer or admin."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "security_protocol": self.security_protocol,
        }
        if "SSL" in self.security_protocol:
            options["ssl_context"] = ssl.create_default_context(cafile=self.ssl_cafile or None)
        if "SASL" in self.security_protocol:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics' names and sizes. They are created once; `tidegate topics` compares."""

    prefix: str = option("", "put before every topic's name", wanted=rules.kafka_name)
    partitions: int = option(
        4, "of connections and state; bound to the state, so choose it once", low=1, high=1024, decides=True
    )
    retention_ms: int = option(
        7 * 24 * rules.HOUR_MS,
        "how long connections are kept; -1: for ever, as imported history needs",
        wanted=rules.retention,
    )
    replication: int = option(1, "copies of every topic; 3 on a cluster that must lose nothing", low=1, high=9)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of the engine. Workers of one app_id share the partitions."""

    app_id: str = option(
        "tidegate", "the consumer group; workers of the same name work together", wanted=rules.required_name
    )
    rows_per_partition: int = option(
        1 << 20,
        "senders that a partition can know, 145 bytes each; rounded up to a power of two",
        low=1024,
        high=1 << 26,
    )
    event_time_window_s: int = option(
        86_400,
        "an event's own time counts if it lies so near to its record's",
        low=1,
        high=10 * 366 * 86_400,
        decides=True,
    )
    checkpoint_interval_ms: int = option(
        5_000, "at least so often state is saved: what a crash makes the next worker read again", low=50, high=600_000
    )
    checkpoint_dirty_rows: int = option(500_000, "changed rows that bring a checkpoint on sooner", low=1, high=1 << 27)
    fetch_bytes: int = option(2 << 20, "read at once from a partition: the size of a block", low=64 << 10, high=8 << 20)
    session_timeout_s: int = option(6, "a worker silent for so long loses its partitions to others", low=6, high=300)
    status_file: str = option("", "file that a JSON snapshot of the worker's counters is written to; empty: none")
    status_interval_ms: int = option(500, "how often that is", low=50, high=600_000)
    http: str = option(
        "127.0.0.1:10090",
        "where page, status and metrics are, HOST:PORT, several with commas; empty: nowhere",
        wanted=rules.internet_listeners,
    )
    http_advertised: str = option(
        "",
        "where the other workers reach this one's page, http or https; empty: at worker.http, by this host's name if that is "
        "every address",
        wanted=rules.page_address,
    )
    http_token: str = option(
        "",
        "who knows it may exempt and release senders on the page; empty: it only shows; better in the environment",
        wanted=rules.token,
        secret=True,
    )
    standby_replicas: int = option(
        1, "other workers that keep a copy of each partition's state, for a quick take-over", low=0, high=8
    )
    instance_id: str = option(
        "", "static group membership: a restart with the same name moves no partition", wanted=rules.kafka_name
    )


@dataclass(frozen=True, slots=True)
class Model:
    """The detector. Its other constants are measured, not configured."""

    detector: str = option(
        "peak-memory",
        "river: a second opinion for replays and comparisons, by the options of [river]",
        choices=("peak-memory", "river"),
        decides=True,
        later=True,
    )
    sensitivity: str = option(
        "normal",
        "the one knob, a budget: how much of regular mail may be deferred, in percent; low is 0.1, normal 0.5, high 1; "
        "off only watches",
        wanted=rules.sensitivity,
        decides=True,
        reloads=True,
    )
    wide_pools: str = option(
        "live",
        "crowds of newcomers in one /16 (IPv6: /48): throttle them, only count what would be throttled, or neither",
        choices=("live", "shadow", "off"),
        decides=True,
        reloads=True,
    )
    mode: str = option(
        "enforce",
        "shadow: what is decided is published as being in shadow, and edges only tell what they would have deferred",
        choices=("enforce", "shadow"),
        decides=True,
        reloads=True,
        later=True,
    )
    shadow_reasons: str = option(
        "",
        "the same for decisions of these reasons alone: volume, probation, pool, with commas",
        wanted=rules.own_reasons,
        decides=True,
        reloads=True,
        later=True,
    )
    shadow_networks: str = option(
        "",
        "the same for decisions on networks that share an address with these, CIDR, with commas",
        wanted=rules.networks,
        decides=True,
        reloads=True,
        later=True,
    )
    learning_days: int = option(
        7,
        "a new site watches at most so long before it decides, and as a rule two or three days; 0 for a site whose "
        "history is replayed first",
        low=0,
        high=366,
        decides=True,
        reloads=True,
    )

    guard: str = option(
        "on",
        "a circuit breaker: once throttles hit known senders as a rule, none is made any more, and those that did are taken "
        "back, until that is over",
        choices=("on", "off"),
        decides=True,
        later=True,
    )

    @property
    def budget_percent(self) -> float:
        """The share of regular mail that may be deferred."""
        named = rules.SENSITIVITIES.get(self.sensitivity)
        return float(self.sensitivity) if named is None else named

    @property
    def decides(self) -> bool:
        """Whether decisions are published."""
        return self.sensitivity != "off"


@dataclass(frozen=True, slots=True)
class River:
    """A second opinion (model.detector = "river"): any anomaly pipeline of river over closed windows, in replays alone."""

    pipeline: str = option(
        "gaussian",
        "gaussian, half-space-trees, or module:callable, which makes a pipeline",
        wanted=rules.pipeline,
        decides=True,
        later=True,
    )
    score: float = option(
        0.999, "from this score on a window throttles its sender", low=0, high=1e9, decides=True, later=True
    )
    window_s: int = option(600, "length of a window", low=10, high=86_400, decides=True, later=True)
    keys: int = option(100_000, "senders a partition that are watched, some kilobytes each", low=1, high=10_000_000)


@dataclass(frozen=True, slots=True)
class Reply:
    """What an MTA tells a throttled sender, after code 451."""

    text: str = option(
        "Server busy. Please try again later from [{ip}].",
        "what the sender's postmaster will read; {retry_s} is when one more message may pass",
        wanted=rules.reply_text,
        reloads=True,
    )
    status_volume: str = option(
        "4.7.500", "enhanced status for a known sender above its own volume", wanted=rules.status, reloads=True
    )
    status_probation: str = option(
        "4.7.501", "enhanced status for a newcomer above its share", wanted=rules.status, reloads=True
    )
    status_pool: str = option(
        "4.7.502", "enhanced status for a newcomer in a crowd of them", wanted=rules.status, reloads=True
    )
    status_override: str = option(
        "4.7.503", "enhanced status for what is throttled by hand", wanted=rules.status, reloads=True
    )


@dataclass(frozen=True, slots=True)
class Edge:
    """The sidecar that MTAs ask. A listener is HOST:PORT or unix:PATH, several with commas; empty: none."""

    name: str = option(
        "", "this edge among the others, in events and heartbeats; empty: the host's name", wanted=rules.kafka_name
    )
    mode: str = option(
        "enforce",
        "shadow: every answer is no opinion, and the log says what it would have been",
        choices=("enforce", "shadow"),
    )
    shadow_reasons: str = option(
        "",
        "the same for decisions of these reasons alone: volume, probation, pool, override, with commas",
        wanted=rules.reasons,
    )
    shadow_networks: str = option(
        "", "the same for clients in these networks alone, CIDR, with commas", wanted=rules.networks
    )
    processes: int = option(
        1,
        "processes that answer, on the same TCP ports and sockets; each has memory, and limits, as one edge has",
        low=1,
        high=64,
    )
    state_dir: str = option(
        "", "its folder, of this edge alone; empty: edge in $TIDEGATE_CACHE_DIR, or in ~/.cache/tidegate"
    )
    policy: str = option("127.0.0.1:10040", "Postfix policy delegation", wanted=rules.listeners)
    http: str = option("127.0.0.1:10080", "HTTP and JSON, health and metrics", wanted=rules.listeners)
    milter: str = option("", "milter", wanted=rules.listeners)
    socketmap: str = option("", "Sendmail and Postfix socketmap", wanted=rules.listeners)
    tcp_table: str = option("", "Postfix tcp_table", wanted=rules.listeners)
    readsocket: str = option("", "Exim's readsocket", wanted=rules.listeners)
    opensmtpd: str = option("", "OpenSMTPD, by way of `tidegate filter`", wanted=rules.listeners)
    dns: str = option("", "DNS over UDP and TCP, no unix:PATH", wanted=rules.internet_listeners)
    dns_zone: str = option("tidegate.invalid", "the zone that DNS answers for", wanted=rules.zone)
    reply_text: str = option(
        "Server busy. Please try again later from [{ip}]; retry in {retry_s} s.",
        "what stands between status and tag in a reply",
        wanted=rules.edge_reply_text,
    )
    max_decisions: int = option(
        2_000_000, "decisions held, about 220 bytes each; networks beyond are not throttled", low=1_000, high=50_000_000
    )
    stale_after_s: int = option(3_600, "without Kafka for so long, nobody is throttled any more", low=1, high=43_200)
    snapshot_interval_s: int = option(60, "how often decisions are saved for a start without Kafka", low=1, high=3_600)
    heartbeat_ms: int = option(
        2_000, "how often edges tell each other that they share the rates; three missed: gone", low=100, high=60_000
    )
    max_connections: int = option(12_000, "clients connected at a time; more are turned away", low=10, high=1_000_000)
    request_octets: int = option(16_384, "a longer request is malformed", low=1_024, high=1_048_576)
    request_timeout_ms: int = option(
        2_000, "a request must be whole, and its answer taken, within", low=100, high=60_000
    )
    idle_timeout_s: int = option(
        1_000,
        "a client that asks nothing for so long is disconnected; Postfix keeps its side for 300",
        low=10,
        high=86_400,
    )
    events: str = option("on", "connections that the edge was asked about become events", choices=("on", "off"))
    quiet_ms: int = option(10_000, "a connection without a request for so long has ended", low=100, high=600_000)
    batch_ms: int = option(200, "events are sent together so often", low=10, high=60_000)
    spool_mb: int = option(
        256, "disk for events while Kafka is away; beyond, the oldest are dropped", low=1, high=1_048_576
    )


@dataclass(frozen=True, slots=True)
class Local:
    """The broker that `up` and `demo` start when kafka.bootstrap is empty."""

    data_dir: str = option("", "its folder; empty: broker in $TIDEGATE_CACHE_DIR, or in ~/.cache/tidegate")
    port: int = option(0, "where it listens on 127.0.0.1; 0: any free port", low=0, high=65_535)
    heap_mb: int = option(512, "Java heap", low=128, high=65_536)


@dataclass(frozen=True, slots=True)
class Log:
    """What goes to standard error."""

    level: str = option("info", "the least important that is shown", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class Settings:
    """All options, checked; made by `engine.config.load.load_settings`. ``relays``: announced networks by the relay's name."""

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    worker: Worker = Worker()
    model: Model = Model()
    river: River = River()
    reply: Reply = Reply()
    edge: Edge = Edge()
    notify: Notify = Notify()  # noqa: RUF009 (frozen, as all sections are)
    local: Local = Local()
    log: Log = Log()
    relays: rules.Networks = field(default_factory=dict)

    def config_hash(self) -> str:
        """SHA-256 in hex over the options that change decisions, as canonical JSON."""
        values = {known: getattr(getattr(self, known.section), known.name) for known in OPTIONS if known.rule.decides}
        chosen: dict[str, Any] = {
            known.path: value for known, value in values.items() if not known.rule.later or value != known.default
        }
        chosen["relays"] = self.relays
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


SECTIONS: dict[str, type] = {
    "kafka": Kafka, "topics": Topics, "worker": Worker, "model": Model, "river": River, "reply": Reply, "edge": Edge,
    "notify": Notify, "local": Local, "log": Log
}  # fmt: skip
KINDS = {"int": int, "float": float, "str": str}


def _declared() -> Iterator[Option]:
    for section, declaration in SECTIONS.items():
        for found in dataclasses.fields(declaration):
            kind = KINDS[cast(str, found.type)]
            yield Option(section, found.name, kind, cast(Any, found.default), found.metadata["rule"])


OPTIONS: tuple[Option, ...] = tuple(_declared())
