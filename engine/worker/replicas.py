"""A partition's state as read from its changelog, without ownership, so that a takeover reads only the missing part.

A replica is cold (nothing read), or warm: a standby that follows the changelog, or the state of an owner whose last checkpoint
was written. A promotion stops following and reads to the end; the caller has fenced every writer before. A replica whose
changelog was deleted or created again starts from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiokafka.errors import OffsetOutOfRangeError
from mode import get_logger

from engine.kafka.follow import RateLimitedWarning, retry
from engine.kafka.resilient_clients import is_transient
from engine.state.partition import Partition
from engine.state.restore import Restoration
from engine.worker.changelog import ChangelogReader, Progress, Recreated
from topics.changelog import BadState

logger = get_logger(__name__)
FOLLOW_MS = 100  # a promotion waits for the fetch at work


class Replica:
    """Reads the changelog ``topic`` into a partition, which ``empty`` makes.

    ``position`` is the changelog's offset after the last record in the state, -1 for none.
    """

    def __init__(self, empty: Callable[[], Partition], topic: str, options: dict[str, Any]) -> None:
        self._empty, self._topic, self._options = empty, topic, options
        self._following: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._start_over()

    @property
    def partition(self) -> Partition:
        """The state; it accepts events only after a promotion."""
        return self.restoration.partition

    def follow(self) -> None:
        """Follow the changelog from now on."""
        self._is_wanted = True
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def stop_following(self) -> None:
        """Follow no more."""
        self._is_wanted = False
        if self._following is not None:
            following, self._following = self._following, None
            await following

    async def promote(self, on_progress: Callable[[Progress], None]) -> None:
        """Read to the end, however long the cluster is unreachable, and make the state ready for events.

        No other worker may be able to write the changelog any more. Raises `BadState` if it can't be decoded.
        """
        await self.stop_following()
        await self._retry(partial(self._read, lambda reader: reader.read_to_end(on_progress)))
        self.restoration.finish()

    def become_replica(self, position: int, epoch: int) -> None:
        """Continue after the owner's last checkpoint, of ``epoch``, which ends before ``position`` of the changelog."""
        self.restoration, self.position = Restoration(self.partition), position
        self.restoration.epoch = epoch

    def _start_over(self) -> None:
        self.restoration = Restoration(self._empty())
        self.position = -1

    async def _retry(self, work: Callable[[], Awaitable[None]]) -> None:
        text = f"partition {self.partition.number} can't be read, trying again: %s"
        await retry(work, RateLimitedWarning(logger, text), _is_retried)

    async def _read(self, work: Callable[[ChangelogReader], Awaitable[None]]) -> None:
        """Do ``work`` with a reader at the position. Start over from nothing if it is another changelog."""
        reader = ChangelogReader(self.restoration, self._topic, self._options, self.position)
        try:
            await reader.start()
            try:
                await work(reader)
                self.position = await reader.position()
            finally:
                await reader.stop()
        except (OffsetOutOfRangeError, Recreated):
            self._start_over()
            raise

    async def _follow(self) -> None:
        try:
            await self._retry(self._read_while_wanted)
        except BadState as error:
            logger.warning("no standby for partition %d: %s", self.partition.number, error)
            self._start_over()

    async def _read_while_wanted(self) -> None:
        if self._is_wanted:
            await self._read(self._follow_reader)

    async def _follow_reader(self, reader: ChangelogReader) -> None:
        while self._is_wanted:
            await reader.fetch(FOLLOW_MS)
            self.position = await reader.position()


def _is_retried(error: Exception) -> bool:
    return is_transient(error) or isinstance(error, OffsetOutOfRangeError | Recreated)
