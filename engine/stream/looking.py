"""A cluster as an onlooker reads it: a partition's state and its connection events. Fences nobody, commits nothing.

The state is that of the last finished checkpoint: some seconds behind a worker that runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine import assembly
from engine.config import Settings
from engine.errors import OperatorError
from engine.policy.partition import Partition
from engine.policy.restoration import Restoration
from engine.stream.blocks import Block, BlockConsumer
from engine.stream.changelog import FETCH_OCTETS, ChangelogReader, Progress, Remade
from engine.stream.unpacking import Workspace
from topics.changelog import BadState
from topics.columns.batches import read_events
from topics.columns.scan import READY, EventColumns
from topics.columns.slow import settle
from topics.contracts import CONNECTIONS, STATE


async def partition_state(settings: Settings, number: int, on_progress: Callable[[Progress], None]) -> Partition:
    """A partition as its last checkpoint has it. ``on_progress`` is called after every fetch. OperatorError if the changelog
    can't be read."""
    restoration = Restoration(assembly.partition(settings, number))
    reader = ChangelogReader(restoration, settings.topics.prefix + STATE.name, settings.kafka.client_options())
    try:
        await reader.start()
        await reader.read_on(on_progress)
    except (BadState, Remade, KafkaError) as error:
        raise OperatorError(f"the state of partition {number} can't be read: {error}") from error
    finally:
        await reader.stop()
    restoration.finish()
    return restoration.partition


async def connection_events(settings: Settings, number: int) -> AsyncIterator[tuple[EventColumns, float]]:
    """The events on a partition of the connections topic as far as it goes now, and the share of it that has been read."""
    tp, workspace = TopicPartition(settings.topics.prefix + CONNECTIONS.name, number), Workspace()
    consumer = BlockConsumer(
        max_partition_fetch_bytes=FETCH_OCTETS, auto_offset_reset="earliest", **settings.kafka.client_options()
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        first = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        await consumer.seek_to_beginning(tp)
        while (position := await consumer.position(tp)) < end:
            for fetched in (await consumer.getmany(tp, timeout_ms=1000)).values():
                for record in fetched:
                    yield ready_events(record.value, workspace), (position - first) / (end - first)
    finally:
        await consumer.stop()


def ready_events(block: Block, workspace: Workspace) -> EventColumns:
    """The events of a block; what is none is passed over."""
    unpacked, columns = workspace.unpack(block)
    count = read_events(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, columns)
    settle(columns, count, lambda i: unpacked.value(columns, i))
    ready = np.flatnonzero(columns.status[:count] == READY)
    return EventColumns._make(column[ready] for column in columns)
