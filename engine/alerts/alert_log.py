"""What operators were told of, on a topic of its own: a worker that restarts, or takes a partition over, goes on from there.

One record a condition, keyed by its name, ``{"name", "kind", "over", "since": ms, "told": ms, "v": 1}``; null once it is over.
It is written when every channel has done with the notice, so that none is lost: what a worker said in its last moments, or
while a receiver was away, may be said again by the next one. Until
the topic has been read once nothing is told; what can't be written is written later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from engine.alerts.alert_state import MOST, AlertRecord
from engine.kafka.follow import RateLimitedWarning, TopicReader, retry, stop_within

logger = logging.getLogger(__name__)
VERSION = 1


def encode(name: str, told: AlertRecord) -> bytes:
    """A record's value."""
    said = {"name": name, "kind": told.kind, "over": told.over, "since": told.since_ms, "told": told.told_ms}
    return orjson.dumps({**said, "v": VERSION})


def decode(value: bytes) -> AlertRecord:
    """The way back; ValueError, KeyError or TypeError for what is none."""
    said = orjson.loads(value)
    return AlertRecord(str(said["kind"]), str(said["over"]), int(said["since"]), int(said["told"]))


class AlertLog:
    """``topic``: its name; ``options``: of Kafka's clients. ``told``: by the condition's name, at most `MOST`; ``known``: all
    that was written so far has been read."""

    def __init__(self, topic: str, options: Mapping[str, Any]) -> None:
        self.told: dict[str, AlertRecord] = {}
        self.known = False
        self._tp, self._options = TopicPartition(topic, 0), options
        self._positions: dict[TopicPartition, int] = {}
        self._writes: asyncio.Queue[tuple[str, AlertRecord | None]] = asyncio.Queue()
        self._unwritten: Counter[str] = Counter()

    def note(self, name: str, told: AlertRecord | None) -> None:
        """This is being told: it counts here at once, and what others wrote of it before counts no more. `keep` must follow."""
        self._unwritten[name] += 1
        self._set(name, told)

    def keep(self, name: str, told: AlertRecord | None) -> None:
        """It has been told: have it written."""
        self._writes.put_nowait((name, told))

    async def run(self) -> None:
        """Read and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(retry(self._read, RateLimitedWarning(logger, "notices can't be read, trying again: %s")))
            group.create_task(self._write())

    def take(self, record: ConsumerRecord) -> None:
        """Take a record in, unless something newer is on its way to the topic from here."""
        name = (record.key or b"").decode(errors="replace")
        if self._unwritten[name]:
            return
        try:
            self._set(name, None if record.value is None else decode(record.value))
        except (ValueError, KeyError, TypeError):
            logger.warning("%s at %d is left out: not readable", record.topic, record.offset)

    def _set(self, name: str, told: AlertRecord | None) -> None:
        if told is None:
            self.told.pop(name, None)
        elif name in self.told or len(self.told) < MOST:
            self.told[name] = told

    async def _read(self) -> None:
        async with TopicReader([self._tp], self._options, self._positions) as reader:
            async for records in reader:
                for record in records:
                    self.take(record)
                self.known = self.known or reader.is_caught_up

    async def _write(self) -> None:
        warning = RateLimitedWarning(logger, "notices can't be written, trying again: %s")
        while True:
            kept = [await self._writes.get()]
            kept += [self._writes.get_nowait() for _ in range(self._writes.qsize())]
            await retry(partial(self._send, kept), warning)
            for name, _ in kept:
                self._unwritten[name] -= 1

    async def _send(self, kept: list[tuple[str, AlertRecord | None]]) -> None:
        """Return when the cluster has acknowledged all of it."""
        producer = AIOKafkaProducer(acks="all", **self._options)
        try:
            await producer.start()
            for name, told in kept:
                value = None if told is None else encode(name, told)
                await producer.send_and_wait(self._tp.topic, value, name.encode(), partition=0)
        finally:
            await stop_within(producer.stop())
