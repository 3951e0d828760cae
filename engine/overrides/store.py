"""The exemptions topic as commands and page use it to give orders: read whole, and written, a record an order.

One producer and, to read, one consumer an order; what is returned has been acknowledged by the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, TopicPartition

from engine.config.load import Settings
from engine.kafka.follow import BULK_RECORDS, START_S, UNAVAILABLE, TopicReader, stop_within
from engine.overrides.changes import Change, InForce
from engine.overrides.request import Orders
from topics.contracts import EXEMPTIONS
from topics.errors import OperatorError
from topics.overrides import (
    REMOVAL_HEADER,
    BadExemption,
    Override,
    Said,
    decode_record,
    encode_override,
    encode_removal,
)

NO_CLUSTER = "no Kafka given: say --bootstrap HOST:PORT, or set kafka.bootstrap"


class OverrideTopic:
    """Use it as a context. OperatorError if the cluster doesn't answer, or has no such topic."""

    def __init__(self, settings: Settings) -> None:
        if not settings.kafka.bootstrap:
            raise OperatorError(NO_CLUSTER)
        self._options = settings.kafka.client_options()
        self._where = settings.kafka.bootstrap
        self._tp = TopicPartition(settings.topics.prefix + EXEMPTIONS.name, 0)
        self._producer = AIOKafkaProducer(enable_idempotence=True, **self._options)

    async def __aenter__(self) -> OverrideTopic:
        try:
            async with asyncio.timeout(START_S):
                await self._producer.start()
                known = (await self._producer.client.fetch_all_metadata()).topics()
        except UNAVAILABLE as error:
            await self._stop()
            raise self._silent(error) from error
        if self._tp.topic not in known:
            await self._stop()
            raise OperatorError(f"no topic {self._tp.topic} on {self._where}: run `tidegate topics --create`")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def read(self) -> tuple[list[Said], int]:
        """Return all records, oldest first, and the number of records that can't be decoded."""
        found: list[Said] = []
        unreadable = 0
        try:
            async with TopicReader([self._tp], self._options, until_end=True, max_records=BULK_RECORDS) as reader:
                async for records in reader:
                    for record in records:
                        removal = dict(record.headers).get(REMOVAL_HEADER)
                        try:
                            said = decode_record(record.key or b"", record.value, removal, record.offset)
                        except BadExemption:
                            unreadable += 1
                            continue
                        if said is not None:
                            found.append(said)
        except UNAVAILABLE as error:
            raise self._silent(error) from error
        return found, unreadable

    async def write(self, said: Sequence[Said]) -> None:
        """Write, in order; done when the cluster has all of it."""
        try:
            sent = []
            for one in said:
                value = encode_override(one) if isinstance(one, Override) else None
                headers = [] if isinstance(one, Override) else [(REMOVAL_HEADER, encode_removal(one))]
                sent.append(
                    await self._producer.send(
                        self._tp.topic,
                        value,
                        one.network.encode(),
                        partition=0,
                        headers=headers,
                        timestamp_ms=one.created,
                    )
                )
            await asyncio.wait_for(asyncio.gather(*sent), START_S)
        except UNAVAILABLE as error:
            raise self._silent(error) from error

    def _silent(self, error: BaseException) -> OperatorError:
        said = str(error) or type(error).__name__
        return OperatorError(f"{self._where} doesn't answer ({said}): nothing is sure to be done; try again")

    async def _stop(self) -> None:
        await stop_within(self._producer.stop())


async def order(settings: Settings, at_ms: int, orders: Orders, *, dry_run: bool = False) -> list[Change]:
    """The changes that the orders lead to, written unless it is a dry run."""
    async with OverrideTopic(settings) as topic:
        present, _ = await topic.read()
        found = list(orders(InForce(present, at_ms)))
        if not dry_run:
            await topic.write([change.said for change in found if change.said is not None])
    return found
