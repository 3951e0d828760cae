"""A partition's state as its changelog has it, outside of any ownership, so that taking it over needs only what is missing.

A replica is cold (nothing read yet), or warm: a standby that reads along, or what an owner left behind whose last checkpoint
was written. Promotion ends the reading along and reads on to the end; the caller has fenced every writer by then. A replica
whose changelog went away under it, or was made again, starts from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from mode import get_logger

from engine.kafka.resilient_clients import away
from engine.state.partition import Partition
from engine.state.restore import Restoration
from engine.worker.changelog import ChangelogReader, Progress, Remade
from topics.changelog import BadState

logger = get_logger(__name__)
FOLLOW_MS = 100  # a promotion waits for the fetch at work
AGAIN_S = 1.0


class Replica:
    """``empty``: makes a partition that has seen nothing; ``topic``, ``options``: its changelog, and the cluster's options.

    ``position``: the changelog's offset behind what the state holds, -1 for nothing."""

    def __init__(self, empty: Callable[[], Partition], topic: str, options: dict[str, Any]) -> None:
        self._empty, self._topic, self._options = empty, topic, options
        self._following: asyncio.Task[None] | None = None
        self._wanted = False
        self._start_over()

    @property
    def partition(self) -> Partition:
        """The state; it takes events only after a promotion."""
        return self.restoration.partition

    def follow(self) -> None:
        """Read along from now on."""
        self._wanted = True
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def rest(self) -> None:
        """Read along no more."""
        self._wanted = False
        if self._following is not None:
            following, self._following = self._following, None
            await following

    async def promote(self, on_progress: Callable[[Progress], None]) -> None:
        """Read what is missing, however long the cluster is away, and make the state ready for events; `BadState` when it can't
        be read. Nobody else may be able to write the changelog any more."""
        await self.rest()
        while not await self._reads(lambda reader: reader.read_on(on_progress)):  # noqa: ASYNC110 (nobody tells when it's back)
            await asyncio.sleep(AGAIN_S)
        self.restoration.finish()

    def left_behind(self, position: int, epoch: int) -> None:
        """The owner has ended; its last checkpoint, of ``epoch``, ends before ``position`` of the changelog."""
        self.restoration, self.position = Restoration(self.partition), position
        self.restoration.epoch = epoch

    def _start_over(self) -> None:
        self.restoration = Restoration(self._empty())
        self.position = -1

    async def _reads(self, work: Callable[[ChangelogReader], Awaitable[None]]) -> bool:
        """Whether a reader, from the position on, could do its ``work``. If not, it is to be tried again in a while."""
        reader = ChangelogReader(self.restoration, self._topic, self._options, self.position)
        try:
            await reader.start()
            try:
                await work(reader)
                self.position = await reader.position()
            finally:
                await reader.stop()
        except (OffsetOutOfRangeError, Remade) as error:
            logger.warning("partition %d is read again from the beginning: %r", self.partition.number, error)
            self._start_over()
        except KafkaError as error:
            if not away(error):
                raise
            logger.warning("partition %d can't be read: %r", self.partition.number, error)
        else:
            return True
        return False

    async def _follow(self) -> None:
        try:
            while self._wanted:
                if not await self._reads(self._read_along):
                    await asyncio.sleep(AGAIN_S)
        except BadState as error:
            logger.warning("no standby for partition %d: %s", self.partition.number, error)
            self._start_over()

    async def _read_along(self, reader: ChangelogReader) -> None:
        while self._wanted:
            await reader.fetch(FOLLOW_MS)
            self.position = await reader.position()
