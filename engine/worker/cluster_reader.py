"""A cluster as an onlooker reads it: a partition's state and its connection events. Fences nobody, commits nothing.

The state is that of the last finished checkpoint: some seconds behind a worker that runs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine.config.load import Settings
from engine.kafka.blocks import Block, BlockConsumer
from engine.kafka.decompress import Workspace
from engine.pipeline import build
from engine.state.history import Checkpoint, Checkpoints
from engine.state.partition import Partition
from engine.state.restore import Restoration
from engine.worker.changelog import FETCH_OCTETS, ChangelogReader, Progress, Remade, records_of
from topics.changelog import BadState
from topics.columns.batches import read_events
from topics.columns.scan import READY, EventColumns, empty_columns
from topics.columns.slow import settle
from topics.contracts import CONNECTIONS, STATE
from topics.errors import OperatorError


async def partition_state(settings: Settings, number: int, on_progress: Callable[[Progress], None]) -> Partition:
    """A partition as its last checkpoint has it. ``on_progress`` is called after every fetch. OperatorError if the changelog
    can't be read."""
    restoration = Restoration(build.partition(settings, number))
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


async def connection_events(settings: Settings, number: int) -> AsyncGenerator[tuple[EventColumns, float]]:
    """The events on a partition of the connections topic as far as it goes now, and the share of it that has been read."""
    workspace = Workspace()
    async for block, share in _blocks(settings, CONNECTIONS.name, number):
        yield ready_events(block, workspace), share


async def checkpoints(settings: Settings, number: int) -> AsyncGenerator[Checkpoint]:
    """The finished checkpoints of a partition that the changelog still has. OperatorError if it can't be read."""
    found = Checkpoints()
    try:
        async for block, _ in _blocks(settings, STATE.name, number):
            for checkpoint in found.add(records_of(block)):
                yield checkpoint
    except BadState as error:
        raise OperatorError(f"the state of partition {number} can't be read: {error}") from error


async def first_offset(settings: Settings, number: int) -> int:
    """The first offset that a partition of the connections topic still has: those before it were deleted."""
    tp = TopicPartition(settings.topics.prefix + CONNECTIONS.name, number)
    consumer = BlockConsumer(**settings.kafka.client_options())
    await consumer.start()
    try:
        return int((await consumer.beginning_offsets([tp]))[tp])
    finally:
        await consumer.stop()


async def _blocks(settings: Settings, topic: str, number: int) -> AsyncGenerator[tuple[Block, float]]:
    """A partition of a topic as far as it goes now, and the share of it before each block."""
    tp = TopicPartition(settings.topics.prefix + topic, number)
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
                    yield record.value, (position - first) / (end - first)
    finally:
        await consumer.stop()


class Follower:
    """Takes a partition through its events, up to one offset after the other."""

    def __init__(self, partition: Partition, events: AsyncIterator[tuple[EventColumns, float]]) -> None:
        self._partition, self._events = partition, events
        self._columns, self._done = empty_columns(0), 0

    async def go_to(self, offset: int) -> None:
        """Apply all events up to an offset, which isn't before the last one."""
        while True:
            cut = int(np.searchsorted(self._columns.offset, offset, side="right"))
            self._partition.apply(self._columns, self._done, cut)
            self._done = max(self._done, cut)
            if cut < len(self._columns.offset):
                return
            following = await anext(self._events, None)
            if following is None:
                return
            self._columns, self._done = following[0], 0


def ready_events(block: Block, workspace: Workspace) -> EventColumns:
    """The events of a block; what is none is passed over."""
    unpacked, columns = workspace.unpack(block)
    count = read_events(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, columns)
    settle(columns, count, lambda i: unpacked.value(columns, i))
    ready = np.flatnonzero(columns.status[:count] == READY)
    return EventColumns._make(column[ready] for column in columns)
