"""Every topic's contract, declared once: name, key, partitions, cleanup, retention, and why.

The constants hold the defaults under their bare names; `contracts` gives them for one installation. Partition counts:

- ``connections`` and ``tidegate-state`` always have the same: the rows of partition n of the state come from partition n
  of the connections. Their keys are hashed over the count, so it can't change under a state.
- ``decisions`` has 4 whatever the others have: its key is the network as CIDR text, so it shares no partition with its
  connections anyway, every reader reads all partitions, and a count of its own stays put (a changed one would strand a
  network's last value in its old partition) when the connections move to another.
- ``exemptions`` has 1: an operator's few rows, and their order is the order they were given in.
- ``edges`` has 1: a heartbeat every other second from each.
- ``notices`` has 1: a record for each thing that an operator was told of and that isn't over.

All keys go through Kafka's default (murmur2) partitioner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

UNLIMITED = -1
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAX_PARTITIONS = 4096


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's contract. ``retention_ms``: -1 is unlimited, None where compaction decides. ``settings``: further topic
    configuration as Kafka names it. ``bound``: another count of partitions breaks the engine."""

    name: str
    key: str
    meaning: str
    partitions: int
    cleanup: str
    retention_ms: int | None = None
    settings: tuple[tuple[str, str], ...] = ()
    replication: int = 1
    bound: bool = False

    def configuration(self) -> dict[str, str]:
        """The topic's configuration as Kafka names and writes it."""
        retention = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        # Two of three copies must hold a record before it counts: one broker may be lost without loss.
        in_sync = {"min.insync.replicas": "2"} if self.replication >= 3 else {}
        return {"cleanup.policy": self.cleanup, **retention, **dict(self.settings), **in_sync}


CONNECTIONS = Topic(
    "connections",
    "client: IPv4, or IPv6 /64",
    "what the MTAs saw: one event a connection",
    partitions=4,
    cleanup="delete",
    retention_ms=7 * DAY_MS,
    settings=(
        ("compression.type", "producer"),  # batches stay as they came: the broker need not open them
        ("message.timestamp.type", "CreateTime"),  # imported history keeps its own time
        ("message.timestamp.after.max.ms", "3600000"),  # a clock an hour ahead is refused at the door
    ),
    bound=True,
)
DECISIONS = Topic(
    "decisions",
    "network, CIDR",
    "whom to throttle, how much and until when; null releases",
    partitions=4,
    cleanup="compact",
)
EXEMPTIONS = Topic(
    "exemptions",
    "network, CIDR",
    "trusted relays and manual overrides; null removes",
    partitions=1,
    cleanup="compact",
    settings=(
        ("min.compaction.lag.ms", str(365 * DAY_MS)),  # so long the topic is the record of who did what, and why
        ("delete.retention.ms", str(7 * DAY_MS)),  # removals, afterwards
    ),
)
DEAD_LETTERS = Topic(
    "dead-letters",
    "none",
    "records that are no event, with reason and source offset",
    partitions=4,
    cleanup="delete",
    retention_ms=30 * DAY_MS,
    settings=(("max.message.bytes", "2097152"),),  # the largest record that Kafka takes by default, in base64
)
STATE = Topic(
    "tidegate-state",
    "sender's row, or site",
    "the engine's checkpoints: what restores a worker",
    partitions=CONNECTIONS.partitions,
    cleanup="compact",
    settings=(
        # A restore reads everything not yet compacted. Compaction never touches the segment being written, so that one is
        # kept small (a second of reading), and starts when 30 % are superseded (Kafka: 50 %): the log stays below 1.5
        # times the rows, at about twice their size written again for each time their size is replaced.
        ("segment.bytes", "67108864"),
        ("min.cleanable.dirty.ratio", "0.3"),
    ),
    bound=True,
)
EDGES = Topic(
    "edges",
    "edge's name",
    "heartbeats of the edges, which share a decision's rate",
    partitions=1,
    cleanup="delete",
    retention_ms=HOUR_MS,
)
NOTICES = Topic(
    "notices",
    "condition's name",
    "what operators were notified of, so that none is told twice; null once it is over",
    partitions=1,
    cleanup="compact",
)
ALL = (CONNECTIONS, DECISIONS, EXEMPTIONS, DEAD_LETTERS, STATE, EDGES, NOTICES)


def contracts(prefix: str, partitions: int, retention_ms: int, replication: int) -> tuple[Topic, ...]:
    """The contracts of one installation.

    ``prefix`` goes before every name; ``partitions`` and ``retention_ms`` (-1: unlimited, as imported history needs, which
    Kafka would delete by its old timestamps) are those of connections; ``replication`` is every topic's."""
    assert 1 <= partitions <= MAX_PARTITIONS
    assert retention_ms == UNLIMITED or retention_ms > 0
    assert replication >= 1

    def placed(topic: Topic) -> Topic:
        return replace(
            topic,
            name=prefix + topic.name,
            partitions=partitions if topic.bound else topic.partitions,
            retention_ms=retention_ms if topic is CONNECTIONS else topic.retention_ms,
            replication=replication,
        )

    return tuple(placed(topic) for topic in ALL)
