"""A worker reads the operators' overrides, all of them, beside its partitions: first to the end, then for ever.

No block is applied before the topic has been read once, or a worker that restarts would publish what was withdrawn. Each
worker reads everything, in no group, and waits for a cluster that is away. It is the worker's only reader of the topic: whoever
shows what was said is told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from mode import get_logger

from engine.kafka.follow import BULK_RECORDS, RateLimitedWarning, TopicReader, retry
from engine.worker.apply import Engine
from topics.overrides import REMOVAL_HEADER, BadExemption, Override, Said, decode_record

logger = get_logger(__name__)


class OverrideReader:
    """Keeps the engine's book up to ``topic``, and has the engine withdraw what is covered. ``hear``: is told of each record
    that can be read, once, in order."""

    def __init__(self, topic: str, options: dict[str, Any], engine: Engine, hear: Callable[[Said], None]) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._warning = RateLimitedWarning(logger, "overrides can't be read, trying again: %s")
        self._tp, self._options, self._engine, self._hear = TopicPartition(topic, 0), options, engine, hear

    async def catch_up(self) -> None:
        """Read to the present end of the topic, however long the cluster is unavailable."""
        await retry(partial(self._read, follow=False), self._warning)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await retry(partial(self._read, follow=True), self._warning)

    async def _read(self, *, follow: bool) -> None:
        async with TopicReader(
            [self._tp], self._options, self._positions, until_end=not follow, max_records=BULK_RECORDS
        ) as reader:
            async for records in reader:
                await self.take(records, follow=follow)

    async def take(self, records: list[Any], *, follow: bool) -> None:
        """Put records into the book; while following, with or without news, have the engine act on them."""
        networks: dict[str, None] = {}
        for record in records:
            said = _read(record)
            if said is None:
                continue
            self._hear(said)
            network = self._engine.book.take(said)
            if network is not None and isinstance(said, Override):
                networks[network] = None
            elif network is not None:  # it ends by event time
                networks.pop(network, None)
        if follow:
            await self._engine.override(list(networks))


def _read(record: Any) -> Said | None:
    """What a record says, as of its own time if it names none; None, and a line in the log, for what is no override."""
    removal = dict(record.headers).get(REMOVAL_HEADER)
    try:
        said = decode_record(record.key or b"", record.value, removal, record.offset)
    except BadExemption as error:
        logger.warning("override at %d is left out: %s", record.offset, error)
        return None
    if said is not None and not said.created:
        return replace(said, created=max(0, record.timestamp))
    return said
