"""Options of the section [edge]: listeners, limits and timeouts of the sidecar that MTAs query."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import validators
from engine.config.option import option


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """The sidecar that MTAs query. A listener is HOST:PORT or unix:/PATH, comma-separated; empty: none."""

    name: str = option(
        "", "name of this edge in events and heartbeats; empty: the host name", validate=validators.kafka_name
    )
    mode: str = option(
        "enforce",
        "shadow: log and count deferrals without applying them",
        choices=("enforce", "shadow"),
    )
    shadow_reasons: str = option(
        "",
        "shadow mode for decisions with these reasons only: volume, probation, pool, override; comma-separated",
        validate=validators.reasons,
    )
    shadow_networks: str = option(
        "", "shadow mode for clients in these networks only, CIDR, comma-separated", validate=validators.networks
    )
    processes: int = option(
        1,
        "processes that share the TCP ports and sockets; memory and limits are per process",
        low=1,
        high=64,
    )
    state_dir: str = option(
        "",
        "folder for state, not shared with other edges; empty: edge in $TIDEGATE_CACHE_DIR, else in ~/.cache/tidegate",
    )
    policy: str = option("127.0.0.1:10040", "listener for Postfix policy delegation", validate=validators.listeners)
    http: str = option("127.0.0.1:10080", "listener for HTTP: JSON, health, metrics", validate=validators.listeners)
    milter: str = option("", "listener for milter", validate=validators.listeners)
    socketmap: str = option("", "listener for Sendmail and Postfix socketmap", validate=validators.listeners)
    tcp_table: str = option("", "listener for Postfix tcp_table", validate=validators.listeners)
    readsocket: str = option("", "listener for Exim readsocket", validate=validators.listeners)
    opensmtpd: str = option("", "listener for OpenSMTPD, through `tidegate filter`", validate=validators.listeners)
    dns: str = option("", "listener for DNS over UDP and TCP, HOST:PORT only", validate=validators.internet_listeners)
    dns_zone: str = option("tidegate.invalid", "DNS zone", validate=validators.zone)
    reply_text: str = option(
        "Server busy. Please try again later from [{ip}]; retry in {retry_s} s.",
        "reply text between status code and tag",
        validate=validators.edge_reply_text,
    )
    max_decisions: int = option(
        2_000_000,
        "largest number of decisions, about 220 bytes each; networks beyond it are not throttled",
        low=1_000,
        high=50_000_000,
    )
    stale_after_s: int = option(3_600, "without Kafka for this long, the edge stops throttling", low=1, high=43_200)
    snapshot_interval_s: int = option(
        60, "interval at which decisions are saved for a start without Kafka", low=1, high=3_600
    )
    heartbeat_ms: int = option(
        2_000,
        "heartbeat interval; live edges share the rates, an edge that misses three isn't live",
        low=100,
        high=60_000,
    )
    max_connections: int = option(
        12_000, "largest number of connected clients; further ones are refused", low=10, high=1_000_000
    )
    request_bytes: int = option(
        16_384, "longest request in bytes; a longer one is malformed", low=1_024, high=1_048_576
    )
    request_timeout_ms: int = option(
        2_000, "timeout for receiving a request and sending its reply", low=100, high=60_000
    )
    idle_timeout_s: int = option(
        1_000,
        "a client without requests for this long is disconnected; Postfix closes after 300",
        low=10,
        high=86_400,
    )
    events: str = option("on", "on: publish the queried connections as events", choices=("on", "off"))
    quiet_ms: int = option(10_000, "a connection without requests for this long has ended", low=100, high=600_000)
    batch_ms: int = option(200, "interval at which events are sent in batches", low=10, high=60_000)
    spool_mb: int = option(
        256, "disk space for events while Kafka is unavailable; beyond it the oldest are dropped", low=1, high=1_048_576
    )
