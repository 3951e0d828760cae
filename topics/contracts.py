"""The contract of every topic, declared once: name, key, partitions, cleanup, retention.

The constants have the defaults without prefix; `contracts` returns those of one installation. Partition counts:

- ``connections`` and ``tidegate-state`` have the same count: partition n of the state has the rows of partition n of the
  connections. Keys are hashed over the count, so it can't change once there is state.
- ``decisions`` has 4. Its key is the network as CIDR text, so its partitions can't match those of the connections, and every
  reader reads all of them. With a count of its own it stays unchanged when the connections get another one, which would
  strand a network's last value in its old partition.
- ``exemptions`` has 1, because the order of overrides is their order on the topic. ``edges`` and ``notices`` have 1: they are
  small.

All keys go through Kafka's default (murmur2) partitioner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

UNLIMITED = -1
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAX_PARTITIONS = 4096


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's contract."""

    name: str
    key: str  # for people
    meaning: str  # for people
    partitions: int
    cleanup: str  # cleanup.policy
    retention_ms: int | None = None  # -1 is unlimited, None of a compacted topic
    settings: tuple[tuple[str, str], ...] = ()  # further topic configuration, with Kafka's names
    replication: int = 1
    bound: bool = False  # the engine needs exactly this number of partitions

    def configuration(self) -> dict[str, str]:
        """Return the topic's configuration with Kafka's names and values."""
        retention = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        # Two of three replicas must have a record before it is acknowledged, so losing one broker loses no records.
        in_sync = {"min.insync.replicas": "2"} if self.replication >= 3 else {}
        return {"cleanup.policy": self.cleanup, **retention, **dict(self.settings), **in_sync}


CONNECTIONS = Topic(
    "connections",
    "client: IPv4, or IPv6 /64",
    "client connections of the MTAs, one event each",
    partitions=4,
    cleanup="delete",
    retention_ms=7 * DAY_MS,
    settings=(
        ("compression.type", "producer"),  # the broker stores batches as they come, without recompressing them
        ("message.timestamp.type", "CreateTime"),  # imported history keeps its timestamps
        ("message.timestamp.after.max.ms", "3600000"),  # the broker refuses records of a clock that is an hour ahead
    ),
    bound=True,
)
DECISIONS = Topic(
    "decisions",
    "network, CIDR",
    "throttles with rate and end; null releases",
    partitions=4,
    cleanup="compact",
)
EXEMPTIONS = Topic(
    "exemptions",
    "network, CIDR",
    "operator overrides: exemptions, releases, manual throttles; null removes",
    partitions=1,
    cleanup="compact",
    settings=(
        ("min.compaction.lag.ms", str(365 * DAY_MS)),  # the audit trail: all overrides with author and reason
        ("delete.retention.ms", str(7 * DAY_MS)),  # of removals, after that
    ),
)
DEAD_LETTERS = Topic(
    "dead-letters",
    "none",
    "records that are no events, with reason and source offset",
    partitions=4,
    cleanup="delete",
    retention_ms=30 * DAY_MS,
    settings=(("max.message.bytes", "2097152"),),  # the largest record that Kafka accepts by default, in base64
)
STATE = Topic(
    "tidegate-state",
    "sender's row, or site",
    "the engine's checkpoints, which restore a worker",
    partitions=CONNECTIONS.partitions,
    cleanup="compact",
    settings=(
        # A restore reads everything not yet compacted. Compaction never touches the active segment, so segments are small
        # (one second of reading). It starts when 30 % of the log are superseded (Kafka's default: 50 %), so the log stays
        # below 1.5 times the rows. Each time all rows are replaced, it rewrites about twice their size.
        ("segment.bytes", "67108864"),
        ("min.cleanable.dirty.ratio", "0.3"),
    ),
    bound=True,
)
EDGES = Topic(
    "edges",
    "edge's name",
    "heartbeats of the edges; live edges share a decision's rate",
    partitions=1,
    cleanup="delete",
    retention_ms=HOUR_MS,
)
NOTICES = Topic(
    "notices",
    "condition's name",
    "open conditions that operators were notified of; null closes one",
    partitions=1,
    cleanup="compact",
)
ALL = (CONNECTIONS, DECISIONS, EXEMPTIONS, DEAD_LETTERS, STATE, EDGES, NOTICES)


def state_writer(app_id: str, partition: int | None = None) -> str:
    """Return the transactional id of a partition's state writer, or without ``partition`` the beginning of all of them."""
    return f"{app_id}-state-{'' if partition is None else partition}"


def edge_client(prefix: str, identity: str = "") -> str:
    """Return the transactional id of an edge, which is its group too, or without ``identity`` the beginning of all of them."""
    return f"{prefix}tidegate-edge-{identity}"


def contracts(prefix: str, partitions: int, retention_ms: int, replication: int) -> tuple[Topic, ...]:
    """Return the contracts of one installation.

    ``prefix`` precedes every name. ``partitions`` and ``retention_ms`` are those of connections; -1 is unlimited, which
    imported history needs, because Kafka deletes by the records' old timestamps. ``replication`` is every topic's.
    """
    assert 1 <= partitions <= MAX_PARTITIONS
    assert retention_ms == UNLIMITED or retention_ms > 0
    assert replication >= 1

    def adapted(topic: Topic) -> Topic:
        return replace(
            topic,
            name=prefix + topic.name,
            partitions=partitions if topic.bound else topic.partitions,
            retention_ms=retention_ms if topic is CONNECTIONS else topic.retention_ms,
            replication=replication,
        )

    return tuple(adapted(topic) for topic in ALL)
