"""Read a cluster from outside the group: a partition's state and its connection events. Fences nothing, commits nothing.

The state is that of the last finished checkpoint: some seconds older than that of a running worker.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine.config.load import Settings
from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Workspace
from engine.kafka.follow import TopicReader
from engine.pipeline import build
from engine.state.partition import Partition
from engine.state.restore import Restoration
from engine.worker.changelog import FETCH_BYTES, ChangelogReader, Progress, Recreated
from topics.changelog import BadState
from topics.columns.batches import read_events
from topics.columns.scan import READY, EventColumns
from topics.columns.slow import settle
from topics.contracts import CONNECTIONS, STATE
from topics.errors import OperatorError


async def partition_state(settings: Settings, number: int, on_progress: Callable[[Progress], None]) -> Partition:
    """Return a partition as of its last checkpoint. ``on_progress`` is called after every fetch.

    Raises `OperatorError` if the changelog can't be read.
    """
    restoration = Restoration(build.partition(settings, number))
    reader = ChangelogReader(restoration, settings.topics.prefix + STATE.name, settings.kafka.client_options())
    try:
        await reader.start()
        await reader.read_to_end(on_progress)
    except (BadState, Recreated, KafkaError) as error:
        raise OperatorError(f"the state of partition {number} can't be read: {error}") from error
    finally:
        await reader.stop()
    restoration.finish()
    return restoration.partition


async def connection_events(settings: Settings, number: int) -> AsyncGenerator[tuple[EventColumns, float]]:
    """Yield the events that a partition of the connections has now, each block with the share of offsets before it."""
    workspace = Workspace()
    async for block, share in _blocks(settings, CONNECTIONS.name, number):
        yield ready_events(block, workspace), share


async def first_offset(settings: Settings, number: int) -> int:
    """Return the first offset that a partition of the connections still has: earlier ones were deleted."""
    tp = TopicPartition(settings.topics.prefix + CONNECTIONS.name, number)
    async with TopicReader([tp], settings.kafka.client_options()) as reader:
        return reader.first[tp]


async def _blocks(settings: Settings, topic: str, number: int) -> AsyncGenerator[tuple[Block, float]]:
    """Yield the blocks that a partition has now, each with the share of offsets before it."""
    tp = TopicPartition(settings.topics.prefix + topic, number)
    options = {**settings.kafka.client_options(), "max_partition_fetch_bytes": FETCH_BYTES}
    async with TopicReader([tp], options, until_end=True, consumer_class=BlockConsumer) as reader:
        async for records in reader:
            for record in records:
                yield record.value, reader.share()


def ready_events(block: Block, workspace: Workspace) -> EventColumns:
    """Return the events of a block; other records are left out."""
    unpacked, columns = workspace.unpack(block)
    count = read_events(unpacked.raw, unpacked.arena, unpacked.batches, block.first_offset, columns)
    settle(columns, count, lambda i: unpacked.value(columns, i))
    ready = np.flatnonzero(columns.status[:count] == READY)
    return EventColumns._make(column[ready] for column in columns)
