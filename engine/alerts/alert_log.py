"""The topic `notices`: which conditions were reported, so that a restarted worker or a new owner reports none again.

One record for each condition, keyed by its name: ``{"name", "kind", "over", "since": ms, "reported": ms, "v": 1}``, null once
it is over. It is written when every channel has delivered or dropped the notice, so no notice is lost. A worker that dies
between delivery and write causes a duplicate. Nothing is reported before the topic has been read once. A failed write is
retried until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from engine.alerts.alert_state import MAX_REPORTED, AlertRecord
from engine.kafka.clients import ExistingTopicsProducer
from engine.kafka.follow import RateLimitedWarning, TopicReader, retry, stop_within

logger = logging.getLogger(__name__)
VERSION = 1


def encode(name: str, record: AlertRecord) -> bytes:
    """Return a record's value on the topic."""
    fields = {
        "name": name,
        "kind": record.kind,
        "over": record.over_text,
        "since": record.since_ms,
        "reported": record.reported_ms,
    }
    return orjson.dumps({**fields, "v": VERSION})


def decode(value: bytes) -> AlertRecord:
    """Return the record; ValueError, KeyError or TypeError if the value is unreadable."""
    fields = orjson.loads(value)
    return AlertRecord(str(fields["kind"]), str(fields["over"]), int(fields["since"]), int(fields["reported"]))


class AlertLog:
    """The reported conditions of the site, at most `MAX_REPORTED`."""

    def __init__(self, topic: str, options: Mapping[str, Any]) -> None:
        """Use ``topic`` (its full name) with the options of Kafka's clients."""
        self.records: dict[str, AlertRecord] = {}  # by condition name
        self.is_loaded = False  # everything written before the start has been read
        self._tp, self._options = TopicPartition(topic, 0), options
        self._positions: dict[TopicPartition, int] = {}
        self._writes: asyncio.Queue[tuple[str, AlertRecord | None]] = asyncio.Queue()
        self._unwritten: Counter[str] = Counter()

    def begin(self, name: str, record: AlertRecord | None) -> None:
        """Set the record locally, and ignore what the topic has for ``name`` until `commit` has been written."""
        self._unwritten[name] += 1
        self._set(name, record)

    def commit(self, name: str, record: AlertRecord | None) -> None:
        """Queue the record for the topic; each `begin` needs one."""
        self._writes.put_nowait((name, record))

    async def run(self) -> None:
        """Read and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(retry(self._read, RateLimitedWarning(logger, "notices can't be read, trying again: %s")))
            group.create_task(self._write())

    def apply(self, record: ConsumerRecord) -> None:
        """Apply a record of the topic, unless a newer one waits here to be written."""
        name = (record.key or b"").decode(errors="replace")
        if self._unwritten[name]:
            return
        try:
            self._set(name, None if record.value is None else decode(record.value))
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: record at offset %d is unreadable, ignored", record.topic, record.offset)

    def _set(self, name: str, record: AlertRecord | None) -> None:
        if record is None:
            self.records.pop(name, None)
        elif name in self.records or len(self.records) < MAX_REPORTED:
            self.records[name] = record

    async def _read(self) -> None:
        async with TopicReader([self._tp], self._options, self._positions) as reader:
            async for records in reader:
                for record in records:
                    self.apply(record)
                self.is_loaded = self.is_loaded or reader.is_caught_up

    async def _write(self) -> None:
        warning = RateLimitedWarning(logger, "notices can't be written, trying again: %s")
        while True:
            writes = [await self._writes.get()]
            writes += [self._writes.get_nowait() for _ in range(self._writes.qsize())]
            await retry(partial(self._send, writes), warning)
            for name, _ in writes:
                self._unwritten[name] -= 1

    async def _send(self, writes: list[tuple[str, AlertRecord | None]]) -> None:
        """Return when the cluster has acknowledged all of it."""
        producer = ExistingTopicsProducer(acks="all", **self._options)
        try:
            await producer.start()
            for name, record in writes:
                value = None if record is None else encode(name, record)
                await producer.send_and_wait(self._tp.topic, value, name.encode(), partition=0)
        finally:
            await stop_within(producer.stop())
