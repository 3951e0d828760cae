"""Write a state that was built elsewhere to a cluster, as the checkpoint from which the next worker starts.

The checkpoint's offset is the one before the first record of the connections topic. So a worker reads the topic from its
beginning, whatever the group has committed, and skips nothing. Events of the history must not be on the topic as well, or they
would count twice; the caller refuses that. Throttles that are active at the history's end are published first, with that same
offset as source: every decision of a worker is newer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine.config.load import Settings
from engine.kafka import topic_admin
from engine.kafka.clients import ExistingTopicsConsumer
from engine.state.encode import cut_state
from engine.state.partition import Partition
from engine.worker.changelog import ChangelogWriter, Fenced
from engine.worker.publisher import Publisher
from topics.contracts import CONNECTIONS, DEAD_LETTERS, DECISIONS, STATE
from topics.decisions import Decision
from topics.errors import OperatorError

EPOCH = 1


@dataclass(frozen=True, slots=True)
class ClusterContents:
    """The records of a cluster before it is seeded."""

    first_offsets: dict[int, int]  # of the connections, by partition
    first_ms: int | None  # record time of the earliest connection event, None without any
    state_records: int  # on the state topic, transaction markers included


async def survey(settings: Settings) -> ClusterContents:
    """Inspect the topics, which must exist."""
    numbers = range(settings.topics.partitions)
    events = [TopicPartition(settings.topics.prefix + CONNECTIONS.name, number) for number in numbers]
    states = [TopicPartition(settings.topics.prefix + STATE.name, number) for number in numbers]
    consumer = ExistingTopicsConsumer(**settings.kafka.client_options())
    await consumer.start()
    try:
        first = await consumer.beginning_offsets(events)
        earliest = await consumer.offsets_for_times(dict.fromkeys(events, 0))
        starts, ends = await consumer.beginning_offsets(states), await consumer.end_offsets(states)
    finally:
        await consumer.stop()
    times_ms = [record.timestamp for record in earliest.values() if record is not None]
    state_records = sum(ends[tp] - starts[tp] for tp in states)
    return ClusterContents({tp.partition: first[tp] for tp in events}, min(times_ms, default=None), state_records)


async def clear(settings: Settings) -> None:
    """Delete the existing state. Raises `OperatorError` while a worker runs."""
    bootstrap, options = settings.kafka.bootstrap, settings.kafka.client_options()
    running = await topic_admin.members(bootstrap, settings.worker.app_id, options)
    if running:
        raise OperatorError(
            f"{running} worker{'s' if running > 1 else ''} of {settings.worker.app_id} running: stop them before their "
            "state is replaced"
        )
    name = settings.topics.prefix + STATE.name
    contract = next(topic for topic in topic_admin.contracts_of(settings) if topic.name == name)
    await topic_admin.recreate(bootstrap, contract, options)


async def seed(
    settings: Settings, partitions: Iterable[Partition], throttles: Iterable[Decision], contents: ClusterContents
) -> None:
    """Publish the active throttles and write every partition's state. The partitions can't be used afterwards."""
    before = {number: offset - 1 for number, offset in contents.first_offsets.items()}
    try:
        await _publish(settings, throttles, before)
        for partition in partitions:
            partition.state.site["applied_offset"] = before[partition.number]
            await _write(settings, partition)
    except Fenced as error:
        raise OperatorError(f"{error}: stop the workers, then warm again with --replace") from error
    except KafkaError as error:
        raise OperatorError(
            f"Kafka at {settings.kafka.bootstrap} didn't accept all of the state ({error}): warm again with --replace"
        ) from error


async def _publish(settings: Settings, throttles: Iterable[Decision], before: dict[int, int]) -> None:
    prefix, failures = settings.topics.prefix, list[BaseException]()
    publisher = Publisher(
        prefix + DECISIONS.name, prefix + DEAD_LETTERS.name, settings.kafka.client_options(), failures.append
    )
    await publisher.start()
    try:
        for decision in throttles:
            source = replace(decision.source, offset=before[decision.source.partition])
            await publisher.publish(replace(decision, source=source))
        await publisher.flushed()
    finally:
        await publisher.stop()


async def _write(settings: Settings, partition: Partition) -> None:
    topic, options = settings.topics.prefix + STATE.name, settings.kafka.client_options()
    writer = ChangelogWriter(topic, partition.number, settings.worker.app_id, options)
    await writer.start()
    try:
        await writer.write(cut_state(partition, EPOCH))
    finally:
        await writer.stop()
