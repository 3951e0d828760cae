"""Read the operators' overrides: first to the present end of the topic, then follow it until cancelled.

No block is applied before the topic has been read once; otherwise a restarted worker would publish withdrawn decisions. Each
worker reads the whole topic, in no group, and waits for an unreachable cluster. This is the worker's only reader of the topic;
other parts of the process subscribe to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from mode import get_logger

from engine.decisions.override_index import OverrideIndex
from engine.kafka.follow import BULK_RECORDS, RateLimitedWarning, TopicReader, retry
from topics.overrides import REMOVAL_HEADER, BadOverride, Override, OverrideRecord, decode_record

logger = get_logger(__name__)


class OverrideFeed:
    """Adds the records of ``topic`` to ``index``.

    While following, ``apply`` is called after each batch, an empty one too, with the networks that have new overrides.
    """

    def __init__(
        self,
        topic: str,
        options: dict[str, Any],
        index: OverrideIndex,
        apply: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._tp, self._options, self._index, self._apply = TopicPartition(topic, 0), options, index, apply
        self._positions: dict[TopicPartition, int] = {}
        self._subscribers: list[Callable[[OverrideRecord], None]] = []
        self._warning = RateLimitedWarning(logger, "overrides can't be read, trying again: %s")

    def subscribe(self, subscriber: Callable[[OverrideRecord], None]) -> None:
        """Call ``subscriber`` with each readable record, once, in order. Subscribe before `catch_up`."""
        self._subscribers.append(subscriber)

    async def catch_up(self) -> None:
        """Read to the present end of the topic, however long the cluster is unreachable."""
        await retry(partial(self._read, follow=False), self._warning)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        await retry(partial(self._read, follow=True), self._warning)

    async def _read(self, *, follow: bool) -> None:
        async with TopicReader(
            [self._tp], self._options, self._positions, until_end=not follow, max_records=BULK_RECORDS
        ) as reader:
            async for records in reader:
                networks = self.add(records)
                if follow:
                    await self._apply(networks)

    def add(self, records: Sequence[ConsumerRecord]) -> list[str]:
        """Add records to the index; return the networks whose new overrides the engine applies."""
        networks: dict[str, None] = {}
        for record in records:
            override = _decode(record)
            if override is None:
                continue
            for subscriber in self._subscribers:
                subscriber(override)
            network = self._index.add(override)
            if network is not None and isinstance(override, Override):
                networks[network] = None
            elif network is not None:  # a removal, which ends the override by event time
                networks.pop(network, None)
        return list(networks)


def _decode(record: ConsumerRecord) -> OverrideRecord | None:
    """Return the record, created at its record time if it names no time; log and return None if it can't be decoded."""
    removal = dict(record.headers).get(REMOVAL_HEADER)
    try:
        override = decode_record(record.key or b"", record.value, removal, record.offset)
    except BadOverride as error:
        logger.warning("override at %d is left out: %s", record.offset, error)
        return None
    if override is not None and not override.created:
        return replace(override, created=max(0, record.timestamp))
    return override
