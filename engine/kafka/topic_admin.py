"""Create the topics on a cluster, and compare a cluster's topics with their contracts. The only module here with I/O.

`ensure` creates what is missing and never alters what is there: a topic may be shared with others, and most differences
lose something when they are mended. `differences` only looks; `recreate` alone deletes. Each finding is one line that says
what is and what to do; a fatal one would cost events, state or decisions. Every wait is bounded: an attempt that gets no
answer, or is refused, ends in one `OperatorError`.

Settings that the contract leaves to the operator (a longer retention, more copies) are compared too, but never fatal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from topics.contracts import Topic
from topics.errors import OperatorError

TIMEOUT_S = 30.0
REQUEST_TIMEOUT_MS = 10_000
VISIBLE_S = 0.02  # how often is looked whether a new topic can be used

CREATED, MISSING, DIFFERS = "created", "missing", "differs"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a topic. ``kind``: created, missing or differs. ``text``: one line, with what to do."""

    topic: str
    kind: str
    fatal: bool
    text: str


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic as the cluster has it. ``replication`` is the smallest among its partitions."""

    name: str
    partitions: int
    replication: int
    configuration: Mapping[str, str]


async def ensure(bootstrap: str, contracts: Sequence[Topic], client_options: Mapping[str, Any]) -> list[Finding]:
    """Create what is missing; a finding for each topic created and for each difference of those that were there.

    ``bootstrap``: host:port, several with commas. ``client_options``: aiokafka's keywords for security and the like."""
    async with _cluster(bootstrap, client_options) as cluster:
        there = await _existing(cluster, contracts)
        created: set[str] = set()
        if len(there) < len(contracts):
            created = await _create(cluster, [contract for contract in contracts if contract.name not in there])
            while len(there) < len(contracts):
                await asyncio.sleep(VISIBLE_S)
                there = await _existing(cluster, contracts)
    # Those that somebody else created meanwhile are compared like the ones that were there before.
    return [_created(contract) for contract in contracts if contract.name in created] + [
        finding
        for contract in contracts
        if contract.name not in created
        for finding in compare(contract, there[contract.name])
    ]


async def differences(bootstrap: str, contracts: Sequence[Topic], client_options: Mapping[str, Any]) -> list[Finding]:
    """What is missing or differs on the cluster; nothing is changed. Arguments as in `ensure`."""
    async with _cluster(bootstrap, client_options) as cluster:
        there = await _existing(cluster, contracts)
    return [
        finding
        for contract in contracts
        for finding in (compare(contract, there[contract.name]) if contract.name in there else [_missing(contract)])
    ]


async def recreate(bootstrap: str, contract: Topic, client_options: Mapping[str, Any]) -> None:
    """Delete a topic with all that is on it, and create it again by its contract. Arguments as in `ensure`."""
    async with _cluster(bootstrap, client_options) as cluster:
        await cluster.delete_topics([contract.name])
        names = await cluster.list_topics()
        while contract.name in names:
            await asyncio.sleep(VISIBLE_S)
            names = await cluster.list_topics()
        await _create(cluster, [contract])
        there = await _existing(cluster, [contract])
        while not there:
            await asyncio.sleep(VISIBLE_S)
            there = await _existing(cluster, [contract])


async def members(bootstrap: str, group: str, client_options: Mapping[str, Any]) -> int:
    """How many consumers a group has now."""
    async with _cluster(bootstrap, client_options) as cluster:
        found = await cluster.describe_consumer_groups([group])
    return sum(len(described[5]) for response in found for described in response.groups)


def compare(contract: Topic, existing: Existing) -> list[Finding]:
    """How a topic of the cluster differs from its contract, the fatal differences first."""
    found = [_partitions(contract, existing), _replication(contract, existing)]
    found += [
        _setting(contract, name, wanted, existing.configuration[name])
        for name, wanted in contract.configuration().items()
        if existing.configuration.get(name, wanted) != wanted
    ]
    return sorted((finding for finding in found if finding is not None), key=lambda finding: not finding.fatal)


def _created(contract: Topic) -> Finding:
    count = f"{contract.partitions} partition{'s' if contract.partitions > 1 else ''}"
    return Finding(contract.name, CREATED, False, f"topic {contract.name} created with {count}")


def _missing(contract: Topic) -> Finding:
    return Finding(
        contract.name, MISSING, True, f"topic {contract.name} does not exist: run `tidegate topics --create`"
    )


def _partitions(contract: Topic, existing: Existing) -> Finding | None:
    if existing.partitions == contract.partitions:
        return None
    said = f"topic {contract.name} has {existing.partitions} partitions, this configuration says {contract.partitions}"
    if not contract.bound:
        return Finding(contract.name, DIFFERS, False, f"{said}: works as it is, nothing to do")
    advice = f"set topics.partitions = {existing.partitions} or create a new topic; state is bound to the count"
    return Finding(contract.name, DIFFERS, True, f"{said}: {advice}")


def _replication(contract: Topic, existing: Existing) -> Finding | None:
    if existing.replication == contract.replication:
        return None
    advice = (
        f"set topics.replication = {existing.replication}, or move the topic with Kafka's own kafka-reassign-partitions"
    )
    said = f"topic {contract.name} is kept {existing.replication} times, this configuration says {contract.replication}"
    return Finding(contract.name, DIFFERS, False, f"{said}: {advice}")


def _setting(contract: Topic, name: str, wanted: str, actual: str) -> Finding:
    said = f"topic {contract.name} has {name}={actual}, its contract says {wanted}"
    alter = f"kafka-configs --alter --entity-type topics --entity-name {contract.name} --add-config {name}={wanted}"
    fatal = name == "cleanup.policy"
    consequence = " before it loses records" if fatal else " or leave it"
    return Finding(contract.name, DIFFERS, fatal, f"{said}: change it with `{alter}`{consequence}")


class _LastWord(logging.Handler):
    """Keeps the last line that aiokafka logs: it says there, and not in its exceptions, why it can't connect."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take the line."""
        self.said = record.getMessage()


@contextmanager
def _overheard() -> Iterator[_LastWord]:
    """Keep aiokafka's complaints from the log and have the last one."""
    log, ear = logging.getLogger("aiokafka"), _LastWord(logging.WARNING)
    propagate, log.propagate = log.propagate, False
    log.addHandler(ear)
    try:
        yield ear
    finally:
        log.removeHandler(ear)
        log.propagate = propagate


@asynccontextmanager
async def _cluster(bootstrap: str, client_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected client; what goes wrong within is told in one `OperatorError`."""
    options = {"request_timeout_ms": REQUEST_TIMEOUT_MS, **client_options, "bootstrap_servers": bootstrap}
    with _overheard() as ear:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                client = AIOKafkaAdminClient(**options)
                try:
                    await client.start()
                    yield client
                finally:
                    await client.close()
        except (KafkaError, OSError, TimeoutError) as error:
            reason = ear.said or str(error) or f"no answer within {TIMEOUT_S:.0f} s"
            advice = "is the broker up, and is kafka.bootstrap (or --bootstrap) the address of its client listener?"
            raise OperatorError(f"Kafka at {bootstrap} can't be used ({reason}): {advice}") from error


async def _existing(cluster: AIOKafkaAdminClient, contracts: Sequence[Topic]) -> dict[str, Existing]:
    # All topics are asked for: a question that names a missing one creates it, where the cluster creates on demand.
    names = {contract.name for contract in contracts}
    described = [topic for topic in await cluster.describe_topics() if topic["topic"] in names]
    present = [topic for topic in described if _settled(topic)]
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic["topic"]) for topic in present]
    configurations = {}
    for response in await cluster.describe_configs(resources) if resources else []:
        for code, message, _, name, entries in response.resources:
            if code:
                reason = message or for_code(code).__name__
                raise OperatorError(f"topic {name} can't be described ({reason}): give this client the right to do so")
            configurations[name] = {entry[0]: entry[1] for entry in entries}
    return {
        topic["topic"]: Existing(
            topic["topic"],
            len(topic["partitions"]),
            min(len(partition["replicas"]) for partition in topic["partitions"]),
            configurations[topic["topic"]],
        )
        for topic in present
    }


def _settled(topic: Mapping[str, Any]) -> bool:
    """Whether all of a topic's partitions are known; for a moment after its creation they aren't."""
    return topic["error_code"] == 0 and bool(topic["partitions"])


async def _create(cluster: AIOKafkaAdminClient, absent: Sequence[Topic]) -> set[str]:
    """Create topics; the names of those that didn't exist."""
    response = await cluster.create_topics(
        [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.configuration())
            for topic in absent
        ]
    )
    for name, code, message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise OperatorError(
                f"topic {name} can't be created ({message or for_code(code).__name__}): "
                "check topics.partitions, topics.replication and this client's right to create topics"
            )
    return {name for name, code, _ in response.topic_errors if code == 0}
