"""A worker reads the operators' overrides, all of them, beside its partitions: first to the end, then for ever.

No block is applied before the topic has been read once, or a worker that restarts would publish what was withdrawn. Each
worker reads everything, in no group, and waits for a cluster that is away. It is the worker's only reader of the topic: whoever
shows what was said is told of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from mode import get_logger

from engine.worker.apply import Engine
from topics.overrides import REMOVAL_HEADER, BadExemption, Override, Said, decode_record

logger = get_logger(__name__)
POLL_MS = 200
MOST_AT_ONCE = 10_000
AGAIN_S = 1.0


class OverrideReader:
    """Keeps the engine's book up to ``topic``, and has the engine withdraw what is covered. ``hear``: is told of each record
    that can be read, once, in order."""

    def __init__(self, topic: str, options: dict[str, Any], engine: Engine, hear: Callable[[Said], None]) -> None:
        self.position = 0
        self._tp, self._options, self._engine, self._hear = TopicPartition(topic, 0), options, engine, hear

    async def catch_up(self) -> None:
        """Read to the end that the topic has now, however long the cluster is away."""
        while not await self._reading(follow=False):  # noqa: ASYNC110 (nobody tells when it is back)
            await asyncio.sleep(AGAIN_S)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._reading(follow=True)
            await asyncio.sleep(AGAIN_S)

    async def _reading(self, *, follow: bool) -> bool:
        """Whether the topic could be read to its end; goes on as long as it can if ``follow``."""
        consumer = AIOKafkaConsumer(
            auto_offset_reset="earliest", max_poll_records=MOST_AT_ONCE, enable_auto_commit=False, **self._options
        )
        try:
            await consumer.start()
            consumer.assign([self._tp])
            consumer.seek(self._tp, self.position)
            end = (await consumer.end_offsets([self._tp]))[self._tp]
            while follow or await consumer.position(self._tp) < end:
                await self.take((await consumer.getmany(self._tp, timeout_ms=POLL_MS)).get(self._tp, []), follow=follow)
                self.position = await consumer.position(self._tp)
        except (KafkaError, OSError, TimeoutError) as error:
            logger.warning("overrides can't be read, trying again: %s", str(error) or type(error).__name__)
            return False
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await consumer.stop()
        return True

    async def take(self, records: list[Any], *, follow: bool) -> None:
        """Put records into the book; while following, with or without news, have the engine act on them."""
        networks: dict[str, None] = {}
        for record in records:
            self.position = record.offset + 1
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
