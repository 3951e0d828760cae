"""Create the topics on a cluster, and compare the topics of a cluster with their contracts.

`ensure` creates missing topics and never alters an existing one: a topic may be shared with others, and most differences
lose data when they are corrected. `differences` changes nothing; `recreate` alone deletes. Each finding is one line: the
difference and its remedy. A fatal finding would lose events, state or decisions. Settings that the contract leaves to the
operator (a longer retention, more replicas) are compared too but are never fatal.

Limit: `TIMEOUT_S` for a call; an unanswered or refused one ends in one `OperatorError`.
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
from aiokafka.errors import InvalidConfigurationError, TopicAlreadyExistsError, for_code

from engine.config.load import Settings
from engine.kafka.follow import UNAVAILABLE
from topics.contracts import ALL, Topic, contracts
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
TIMEOUT_S = 30.0
REQUEST_TIMEOUT_MS = 10_000
VISIBLE_S = 0.02  # between two checks whether a new topic is usable

CREATED, MISSING, DIFFERS = "created", "missing", "differs"


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """One line about a topic."""

    topic: str
    kind: str  # CREATED, MISSING or DIFFERS
    fatal: bool
    text: str  # with the remedy


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """A topic as the cluster has it."""

    name: str
    partitions: int
    replication: int  # the smallest among its partitions
    configuration: Mapping[str, str]


def contracts_of(settings: Settings) -> tuple[Topic, ...]:
    """Return the contracts of all topics under this configuration."""
    topics = settings.topics
    return contracts(topics.prefix, topics.partitions, topics.retention_ms, topics.replication)


def check_topics(settings: Settings, *, create: bool, needed: Sequence[Topic] = ALL) -> None:
    """Compare the cluster's topics with their contracts; log the differences that are not fatal.

    Only ``needed`` topics are checked: a client may have no right to see the others. Missing ones are created if ``create``.
    Raises `OperatorError` for the first fatal difference.
    """
    check = ensure if create else differences
    names = {settings.topics.prefix + topic.name for topic in needed}
    wanted = [contract for contract in contracts_of(settings) if contract.name in names]
    findings = asyncio.run(check(settings.kafka.bootstrap, wanted, settings.kafka.client_options()))
    for finding in findings:
        if finding.fatal:
            raise OperatorError(finding.text)
        logger.info("%s", finding.text)


async def ensure(bootstrap: str, wanted: Sequence[Topic], client_options: Mapping[str, Any]) -> list[TopicFinding]:
    """Create missing topics; return a finding for each created topic and for each difference of the existing ones.

    ``bootstrap`` is host:port, several separated by commas. ``client_options`` are aiokafka's keywords, such as security.
    """
    async with _connected(bootstrap, client_options) as cluster:
        existing = await _existing(cluster, wanted)
        created: dict[str, list[str]] = {}
        if len(existing) < len(wanted):
            created = await _create(cluster, [contract for contract in wanted if contract.name not in existing])
            while len(existing) < len(wanted):
                await asyncio.sleep(VISIBLE_S)
                existing = await _existing(cluster, wanted)
    # Topics that another process created meanwhile are compared like those that existed before.
    return [_created(contract, created[contract.name]) for contract in wanted if contract.name in created] + [
        finding
        for contract in wanted
        if contract.name not in created
        for finding in compare(contract, existing[contract.name])
    ]


async def differences(bootstrap: str, wanted: Sequence[Topic], client_options: Mapping[str, Any]) -> list[TopicFinding]:
    """Return a finding for each missing topic and for each difference. Arguments as in `ensure`."""
    async with _connected(bootstrap, client_options) as cluster:
        existing = await _existing(cluster, wanted)
    return [
        finding
        for contract in wanted
        for finding in (
            compare(contract, existing[contract.name]) if contract.name in existing else [_missing(contract)]
        )
    ]


async def recreate(bootstrap: str, contract: Topic, client_options: Mapping[str, Any]) -> None:
    """Delete a topic with all its records, and create it again by its contract. Arguments as in `ensure`."""
    async with _connected(bootstrap, client_options) as cluster:
        await cluster.delete_topics([contract.name])
        names = await cluster.list_topics()
        while contract.name in names:
            await asyncio.sleep(VISIBLE_S)
            names = await cluster.list_topics()
        await _create(cluster, [contract])
        existing = await _existing(cluster, [contract])
        while not existing:
            await asyncio.sleep(VISIBLE_S)
            existing = await _existing(cluster, [contract])


async def members(bootstrap: str, group: str, client_options: Mapping[str, Any]) -> int:
    """Return the number of consumers that a group has now."""
    async with _connected(bootstrap, client_options) as cluster:
        responses = await cluster.describe_consumer_groups([group])
    return sum(len(described[5]) for response in responses for described in response.groups)


def compare(contract: Topic, existing: ExistingTopic) -> list[TopicFinding]:
    """Return the differences of a topic from its contract, the fatal ones first."""
    findings = [_partitions(contract, existing), _replication(contract, existing)]
    findings += [
        _setting(contract, name, wanted, existing.configuration[name])
        for name, wanted in contract.configuration().items()
        if existing.configuration.get(name, wanted) != wanted
    ]
    return sorted((finding for finding in findings if finding is not None), key=lambda finding: not finding.fatal)


def _created(contract: Topic, unknown: Sequence[str]) -> TopicFinding:
    count = f"{contract.partitions} partition{'s' if contract.partitions > 1 else ''}"
    without = f", without {', '.join(unknown)}: these brokers don't know this setting" if unknown else ""
    return TopicFinding(contract.name, CREATED, False, f"topic {contract.name} created with {count}{without}")


def _missing(contract: Topic) -> TopicFinding:
    return TopicFinding(contract.name, MISSING, True, missing_topic(contract.name))


def _partitions(contract: Topic, existing: ExistingTopic) -> TopicFinding | None:
    if existing.partitions == contract.partitions:
        return None
    return TopicFinding(contract.name, DIFFERS, contract.bound, partition_difference(contract, existing.partitions))


def partition_difference(contract: Topic, partitions: int) -> str:
    """Return the sentence about a topic that has another number of partitions than its contract, with the remedy."""
    text = f"topic {contract.name} has {partitions} partitions, this configuration expects {contract.partitions}"
    if not contract.bound:
        return f"{text}: works as it is, nothing to do"
    return f"{text}: set topics.partitions = {partitions} or create a new topic; state is bound to the count"


def _replication(contract: Topic, existing: ExistingTopic) -> TopicFinding | None:
    if existing.replication == contract.replication:
        return None
    advice = (
        f"set topics.replication = {existing.replication}, or move the topic with Kafka's own kafka-reassign-partitions"
    )
    text = (
        f"topic {contract.name} has {existing.replication} replicas, this configuration expects {contract.replication}"
    )
    return TopicFinding(contract.name, DIFFERS, False, f"{text}: {advice}")


def _setting(contract: Topic, name: str, wanted: str, actual: str) -> TopicFinding:
    text = f"topic {contract.name} has {name}={actual}, its contract requires {wanted}"
    alter = f"kafka-configs --alter --entity-type topics --entity-name {contract.name} --add-config {name}={wanted}"
    fatal = name == "cleanup.policy"
    consequence = " before it loses records" if fatal else " or leave it"
    return TopicFinding(contract.name, DIFFERS, fatal, f"{text}: change it with `{alter}`{consequence}")


def missing_topic(name: str) -> str:
    """Return the sentence about a topic that isn't among those that the cluster shows to this client."""
    return (
        f"topic {name} does not exist, or this client has no right to describe it: run `tidegate topics --create`, or grant "
        "the rights of `tidegate topics --acls`"
    )


class _LastLine(logging.Handler):
    """Keeps the last line of a log."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.text = record.getMessage()


@contextmanager
def _captured_log() -> Iterator[_LastLine]:
    """Keep aiokafka's warnings out of the log; yield the last one: it has the reason, which the exceptions lack."""
    log, last = logging.getLogger("aiokafka"), _LastLine(logging.WARNING)
    propagate, log.propagate = log.propagate, False
    log.addHandler(last)
    try:
        yield last
    finally:
        log.removeHandler(last)
        log.propagate = propagate


@asynccontextmanager
async def _connected(bootstrap: str, client_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a connected client; a failure inside becomes one `OperatorError`."""
    options = {"request_timeout_ms": REQUEST_TIMEOUT_MS, **client_options, "bootstrap_servers": bootstrap}
    with _captured_log() as last:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                client = AIOKafkaAdminClient(**options)
                try:
                    await client.start()
                    yield client
                finally:
                    await client.close()
        except UNAVAILABLE as error:
            reason = last.text or str(error) or f"no response within {TIMEOUT_S:.0f} s"
            advice = "is the broker up, and is kafka.bootstrap (or --bootstrap) the address of its client listener?"
            raise OperatorError(f"Kafka at {bootstrap} can't be used ({reason}): {advice}") from error


async def _existing(cluster: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> dict[str, ExistingTopic]:
    # All topics are described: a request that names a missing topic creates it on clusters that create on demand.
    names = {contract.name for contract in wanted}
    described = [topic for topic in await cluster.describe_topics() if topic["topic"] in names]
    present = [topic for topic in described if _is_settled(topic)]
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic["topic"]) for topic in present]
    configurations = {}
    for response in await cluster.describe_configs(resources) if resources else []:
        for code, message, _, name, entries in response.resources:
            if code:
                reason = message or for_code(code).__name__
                raise OperatorError(f"topic {name} can't be described ({reason}): give this client the right to do so")
            configurations[name] = {entry[0]: entry[1] for entry in entries}
    return {
        topic["topic"]: ExistingTopic(
            topic["topic"],
            len(topic["partitions"]),
            min(len(partition["replicas"]) for partition in topic["partitions"]),
            configurations[topic["topic"]],
        )
        for topic in present
    }


def _is_settled(topic: Mapping[str, Any]) -> bool:
    """Return True if all partitions are known; they are not for a short time after the topic's creation."""
    return topic["error_code"] == 0 and bool(topic["partitions"])


async def _create(cluster: AIOKafkaAdminClient, absent: Sequence[Topic]) -> dict[str, list[str]]:
    """Create topics; return those that didn't exist, each with the settings that the brokers don't know.

    An unknown setting is left out in a further attempt. An example is ``message.timestamp.after.max.ms`` before Kafka 3.6.
    """
    left_out: dict[str, list[str]] = {topic.name: [] for topic in absent}
    created, pending = set[str](), {topic.name: topic for topic in absent}
    while pending:
        response = await cluster.create_topics([_new_topic(topic, left_out[name]) for name, topic in pending.items()])
        for name, code, message in response.topic_errors:
            unknown = _unknown_setting(pending[name], left_out[name], code, message)
            if unknown:
                left_out[name].append(unknown)
                continue
            del pending[name]
            if code == 0:
                created.add(name)
            elif code != TopicAlreadyExistsError.errno:
                raise OperatorError(
                    f"topic {name} can't be created ({message or for_code(code).__name__}): "
                    "check topics.partitions, topics.replication and this client's right to create topics"
                )
    return {name: left_out[name] for name in left_out if name in created}


def _new_topic(topic: Topic, left_out: Sequence[str]) -> NewTopic:
    settings = {name: value for name, value in topic.configuration().items() if name not in left_out}
    return NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=settings)


def _unknown_setting(topic: Topic, left_out: Sequence[str], code: int, message: str | None) -> str:
    """Return the setting that a broker refuses because it doesn't know it, else "". The cleanup policy is indispensable."""
    if code != InvalidConfigurationError.errno or "unknown" not in (message or "").lower():
        return ""
    candidates = [name for name, _ in topic.settings if name not in left_out]
    return next((name for name in candidates if name in (message or "")), "")
