"""A state that was built elsewhere, put on a cluster as the checkpoint that the next worker starts from.

The checkpoint stands for the offset before the first record that the connections topic has: so a worker reads the topic from
its beginning, whatever the group has committed, and nothing that is on it is passed over. Events of the history must
not be on the topic as well, or they would count twice; that is refused. Throttles that are in force when the history ends are
published first, as a worker would have: their source is that same offset, so whatever a worker says is newer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from engine.config.load import Settings
from engine.kafka import topic_admin
from engine.state.encode import take_cut
from engine.state.partition import Partition
from engine.worker.changelog import ChangelogWriter, Fenced
from engine.worker.publisher import Publisher
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, STATE, contracts
from topics.decisions import Decision
from topics.errors import OperatorError

EPOCH = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """What a cluster has before it is seeded. ``first_offsets``: of the connections, by partition; ``first_ms``: record time
    of the earliest event there, None without any; ``state_records``: on the state topic, markers included."""

    first_offsets: dict[int, int]
    first_ms: int | None
    state_records: int


async def survey(settings: Settings) -> Ground:
    """Look at the topics, which must be there."""
    numbers = range(settings.topics.partitions)
    events = [TopicPartition(settings.topics.prefix + CONNECTIONS.name, number) for number in numbers]
    states = [TopicPartition(settings.topics.prefix + STATE.name, number) for number in numbers]
    consumer = AIOKafkaConsumer(**settings.kafka.client_options())
    await consumer.start()
    try:
        first = await consumer.beginning_offsets(events)
        earliest = await consumer.offsets_for_times(dict.fromkeys(events, 0))
        begun, ends = await consumer.beginning_offsets(states), await consumer.end_offsets(states)
    finally:
        await consumer.stop()
    stamps = [found.timestamp for found in earliest.values() if found is not None]
    held = sum(ends[tp] - begun[tp] for tp in states)
    return Ground({tp.partition: first[tp] for tp in events}, min(stamps, default=None), held)


async def clear(settings: Settings) -> None:
    """Forget the state that is there. OperatorError while a worker runs, whose state it is."""
    bootstrap, options = settings.kafka.bootstrap, settings.kafka.client_options()
    running = await topic_admin.members(bootstrap, settings.worker.app_id, options)
    if running:
        raise OperatorError(
            f"{running} worker{'s' if running > 1 else ''} of {settings.worker.app_id} at work: stop them before their "
            "state is replaced"
        )
    topics = settings.topics
    wanted = contracts(topics.prefix, topics.partitions, topics.retention_ms, topics.replication)
    await topic_admin.recreate(bootstrap, next(topic for topic in wanted if topic.name.endswith(STATE.name)), options)


async def seed(
    settings: Settings, partitions: Iterable[Partition], standing: Iterable[Decision], ground: Ground
) -> None:
    """Publish the throttles in force and write every partition's state. The partitions are spent afterwards."""
    before = {number: offset - 1 for number, offset in ground.first_offsets.items()}
    try:
        await _publish(settings, standing, before)
        for partition in partitions:
            partition.state.site["applied_offset"] = before[partition.number]
            await _write(settings, partition)
    except Fenced as error:
        raise OperatorError(f"{error}: stop the workers, then warm again with --replace") from error
    except KafkaError as error:
        raise OperatorError(
            f"Kafka at {settings.kafka.bootstrap} didn't take all of the state ({error}): warm again with --replace"
        ) from error


async def _publish(settings: Settings, standing: Iterable[Decision], before: dict[int, int]) -> None:
    prefix, failures = settings.topics.prefix, list[BaseException]()
    publisher = Publisher(
        prefix + DECISIONS.name, prefix + DEAD_LETTERS.name, settings.kafka.client_options(), failures.append
    )
    await publisher.start()
    try:
        for decision in standing:
            source = replace(decision.source, offset=before[decision.source.partition])
            await publisher.publish(replace(decision, source=source))
        await publisher.settled()
    finally:
        await publisher.stop()


async def _write(settings: Settings, partition: Partition) -> None:
    topic, options = settings.topics.prefix + STATE.name, settings.kafka.client_options()
    writer = ChangelogWriter(topic, partition.number, settings.worker.app_id, options)
    await writer.start()
    try:
        await writer.write(take_cut(partition, EPOCH))
    finally:
        await writer.stop()
