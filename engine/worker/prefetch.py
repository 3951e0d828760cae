"""Events read ahead: a thread of its own unpacks and scans the blocks as they arrive.

That needs no state, is more than half of what a block costs, and releases the GIL: so it runs beside the consumer's thread,
which fetches, and beside the agent, which detects. The agent gets a future of a `Reading` a block, in order, and gives the
reading's workspace back when it is done with it. How many are under way is bounded by the stream's buffer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.structs import ConsumerRecord

from engine.kafka.blocks import Block, BlockConsumer, BlockFetcher, BlockRecords, RawRecords
from engine.kafka.decompress import Unpacked, Workspace
from engine.kafka.resilient_clients import rebound
from topics.columns.batches import read_events
from topics.columns.scan import EventColumns


class Workspaces:
    """Workspaces that wait to be used again; as many as there are blocks at work at once. Safe between two threads."""

    def __init__(self) -> None:
        self._idle: list[Workspace] = []

    def take(self) -> Workspace:
        """An idle workspace, a new one if there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace()

    def give_back(self, workspace: Workspace) -> None:
        """The block that was in it is done with."""
        self._idle.append(workspace)


WORKSPACES = Workspaces()
READER = ThreadPoolExecutor(1, "read")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A block's events as columns: the first ``count`` of ``columns``, which live in ``workspace`` until it is given back."""

    block: Block
    unpacked: Unpacked
    columns: EventColumns
    count: int
    workspace: Workspace


def read(block: Block, workspace: Workspace) -> Reading:
    """Unpack a block and read its events."""
    unpacked, columns = workspace.unpack(block)
    count = read_events(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset, columns)
    return Reading(block, unpacked, columns, count, workspace)


class EventRecords(BlockRecords):
    """As `BlockRecords`; the value is a future of a `Reading`."""

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        for record in super()._unpack_records():
            yield dataclasses.replace(record, value=READER.submit(read, record.value, WORKSPACES.take()))


class EventFetcher(BlockFetcher):
    """aiokafka's fetcher with readings for records."""

    _proc_fetch_request = rebound(
        aiokafka_fetcher.Fetcher._proc_fetch_request, MemoryRecords=RawRecords, PartitionRecords=EventRecords
    )


class EventConsumer(BlockConsumer):
    """aiokafka's consumer with readings for records."""

    start = rebound(AIOKafkaConsumer.start, Fetcher=EventFetcher)
