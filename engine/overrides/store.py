"""Read and write the exemptions topic for commands and page: all of it is read, one record is written per override.

An order uses one producer and one consumer. What is returned has been acknowledged by the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition

from engine.config.load import Settings
from engine.decisions.override_index import OverrideIndex
from engine.kafka.clients import ExistingTopicsProducer
from engine.kafka.follow import BULK_RECORDS, START_S, UNAVAILABLE, TopicReader, stop_within
from engine.kafka.topic_admin import missing_topic
from engine.overrides.changes import OverrideChange
from engine.overrides.request import Plan
from topics.contracts import EXEMPTIONS
from topics.errors import OperatorError
from topics.overrides import (
    REMOVAL_HEADER,
    BadOverride,
    Override,
    OverrideRecord,
    decode_record,
    encode_override,
    encode_removal,
)

NO_CLUSTER = "no Kafka given: pass --bootstrap HOST:PORT or set kafka.bootstrap"


class OverrideTopic:
    """Client of the topic, an async context manager. Raises OperatorError if cluster or topic is unavailable."""

    def __init__(self, settings: Settings) -> None:
        if not settings.kafka.bootstrap:
            raise OperatorError(NO_CLUSTER)
        self._options = settings.kafka.client_options()
        self._bootstrap = settings.kafka.bootstrap
        self._tp = TopicPartition(settings.topics.prefix + EXEMPTIONS.name, 0)
        self._producer = ExistingTopicsProducer(enable_idempotence=True, **self._options)

    async def __aenter__(self) -> OverrideTopic:
        try:
            async with asyncio.timeout(START_S):
                await self._producer.start()
                known = (await self._producer.client.fetch_all_metadata()).topics()
        except UNAVAILABLE as error:
            await self._stop()
            raise self._unavailable(error) from error
        if self._tp.topic not in known:
            await self._stop()
            raise OperatorError(f"{self._bootstrap}: {missing_topic(self._tp.topic)}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def read(self) -> tuple[list[OverrideRecord], int]:
        """Return all records, oldest first, and the number of records that can't be decoded."""
        decoded: list[OverrideRecord] = []
        unreadable = 0
        try:
            async with TopicReader([self._tp], self._options, until_end=True, max_records=BULK_RECORDS) as reader:
                async for messages in reader:
                    for message in messages:
                        removal = dict(message.headers).get(REMOVAL_HEADER)
                        try:
                            record = decode_record(message.key or b"", message.value, removal, message.offset)
                        except BadOverride:
                            unreadable += 1
                            continue
                        if record is not None:
                            decoded.append(record)
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error
        return decoded, unreadable

    async def write(self, records: Sequence[OverrideRecord]) -> None:
        """Write the records in order; return when the cluster has acknowledged all of them."""
        try:
            pending = [await self._send(record) for record in records]
            await asyncio.wait_for(asyncio.gather(*pending), START_S)
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error

    async def _send(self, record: OverrideRecord) -> asyncio.Future[Any]:
        value = encode_override(record) if isinstance(record, Override) else None
        headers = [] if isinstance(record, Override) else [(REMOVAL_HEADER, encode_removal(record))]
        pending: asyncio.Future[Any] = await self._producer.send(
            self._tp.topic,
            value,
            record.network.encode(),
            partition=0,
            headers=headers,
            timestamp_ms=record.created,
        )
        return pending

    def _unavailable(self, error: BaseException) -> OperatorError:
        reason = str(error) or type(error).__name__
        return OperatorError(f"{self._bootstrap} doesn't answer ({reason}): the order may not be complete; try again")

    async def _stop(self) -> None:
        await stop_within(self._producer.stop())


async def apply_plan(settings: Settings, plan: Plan, *, dry_run: bool = False) -> list[OverrideChange]:
    """Return the changes that a plan makes to the topic's overrides, and write them unless it is a dry run."""
    async with OverrideTopic(settings) as topic:
        records, _ = await topic.read()
        changes = list(plan(OverrideIndex(records)))
        if not dry_run:
            await topic.write([change.record for change in changes if change.record is not None])
    return changes
