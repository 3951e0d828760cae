"""Events from NDJSON text into the connections topic, in blocks: scan, deal to partitions, one batch a partition.

Each record carries its event time as record timestamp and its record key, so consumers see what an edge would have sent.
Lines that are no events are left out and counted. Rate: above a million events a second with a broker on the same machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer

from topics.columns.batchwrite import ColumnBatch
from topics.columns.keys import SCRATCH, partitions_of_keys
from topics.columns.scan import READY, empty_columns, scan_lines
from topics.columns.slow import Poison, settle
from topics.columns.write import write_records
from topics.contracts import UNLIMITED
from topics.errors import OperatorError

BLOCK_EVENTS = 1 << 14
BATCH_OCTETS = 900_000  # below the broker's default for the largest batch
IN_FLIGHT = 32  # batches


class LineTooLong(ValueError):
    """A line doesn't fit into a record batch."""


def refuse_history(first_ms: int, retention_ms: int | None) -> None:
    """Kafka deletes by record timestamp: events older than the topic's retention would vanish within minutes.
    `OperatorError` if events that begin at ``first_ms`` (negative: unknown) are."""
    if retention_ms is None or retention_ms == UNLIMITED or not 0 <= first_ms < time.time() * 1000 - retention_ms:
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(first_ms / 1000))
    raise OperatorError(
        f"the events begin on {day}, but topics.retention_ms keeps {retention_ms / 86_400_000:g} days and Kafka deletes by "
        "event time: set topics.retention_ms = -1 (and the topic's retention.ms) to keep imported history"
    )


@dataclass(slots=True)
class Produced:
    """What has been handed to the broker, and the span of event time it covers."""

    events: int = 0
    poison: int = 0
    octets: int = 0
    first_ms: int = -1
    last_ms: int = -1
    examples: list[str] = field(default_factory=list)


class EventProducer:
    """Sends events to ``topic``, which has ``partitions``. ``codec``: none, gzip, snappy, lz4 or zstd; ``kept_ms``: the
    topic's retention, None if it doesn't matter: events that Kafka would drop at once are refused before they are sent."""

    def __init__(
        self, topic: str, partitions: int, codec: str, options: dict[str, Any], kept_ms: int | None = None
    ) -> None:
        self.topic, self.partitions, self.codec = topic, partitions, codec
        self.produced = Produced()
        self._options, self._kept_ms = options, kept_ms
        self._columns = empty_columns(BLOCK_EVENTS)
        self._out = np.empty(BATCH_OCTETS, np.uint8)
        self._scratch = np.empty(SCRATCH, np.uint8)
        self._sent: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(enable_idempotence=True, **self._options)
        await self._producer.start()

    async def stop(self) -> None:
        """Wait for what is in flight and disconnect."""
        try:
            await self.settled()
        finally:
            await self._producer.stop()

    async def settled(self) -> None:
        """Wait until the broker has acknowledged everything; raises the first failure."""
        if self._sent:
            await asyncio.gather(*self._sent)

    async def send(self, text: bytes) -> None:
        """Send all events of ``text``, whole lines; waits while much is in flight."""
        octets, at = np.frombuffer(text, np.uint8), 0
        while at < len(text):
            count, used = scan_lines(octets[at:], self._columns)
            if not used:
                raise LineTooLong("the text doesn't end with a line break")
            lines = octets[at : at + used]
            for partition, batch in self._batches(lines, count):
                await self._send(partition, batch)
            at += used

    def _batches(self, lines: npt.NDArray[np.uint8], count: int) -> Iterator[tuple[int, ColumnBatch]]:
        columns, produced = self._columns, self.produced
        settled = settle(
            columns, count, lambda i: lines[columns.start[i] : columns.start[i] + columns.length[i]].tobytes()
        )
        self._note_poison(settled.poison)
        ready = np.flatnonzero(columns.status[:count] == READY)
        if len(ready):
            stamps = columns.ts_ms[ready]
            produced.first_ms = (
                int(stamps.min()) if produced.first_ms < 0 else min(produced.first_ms, int(stamps.min()))
            )
            produced.last_ms = max(produced.last_ms, int(stamps.max()))
            refuse_history(produced.first_ms, self._kept_ms)
        owner = partitions_of_keys(columns.key[ready], self.partitions)
        for partition in range(self.partitions):
            chosen = ready[owner == partition]
            while len(chosen):
                written, size = write_records(lines, columns, chosen, self._scratch, self._out)
                if not written:
                    raise LineTooLong(f"a line of {columns.length[chosen[0]]} octets doesn't fit into a record batch")
                stamps = columns.ts_ms[chosen[:written]]
                span_ms = int(stamps[0]), int(stamps.max())
                produced.events += written
                produced.octets += size
                yield partition, ColumnBatch(self._out[:size].tobytes(), written, span_ms, codec=self.codec)
                chosen = chosen[written:]

    def _note_poison(self, poison: list[Poison]) -> None:
        self.produced.poison += len(poison)
        room = 5 - len(self.produced.examples)
        self.produced.examples += [found.reason for found in poison[:room]]

    async def _send(self, partition: int, batch: ColumnBatch) -> None:
        while len(self._sent) >= IN_FLIGHT:
            done, _ = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
            self._sent -= done
        self._sent.add(await self._producer.send_batch(batch, self.topic, partition=partition))
