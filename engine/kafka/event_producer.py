"""Send events from NDJSON text to the connections topic: scan a block, assign partitions, one batch per partition.

Each record carries its event time as record timestamp and its record key, so consumers see the records that an edge would
have sent. Lines that are not events are left out and counted. Rate: above a million events per second with a broker on the
same machine. Limit: `IN_FLIGHT` batches of `BATCH_BYTES` at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kafka.clients import ExistingTopicsProducer
from topics.columns.batchwrite import ColumnBatch
from topics.columns.keys import SCRATCH, partitions_of_keys
from topics.columns.scan import READY, empty_columns, scan_lines
from topics.columns.slow import Poison, settle
from topics.columns.write import write_records
from topics.contracts import UNLIMITED
from topics.errors import OperatorError

BLOCK_EVENTS = 1 << 14
BATCH_BYTES = 900_000  # below the broker's default for the largest batch
IN_FLIGHT = 32  # batches
MAX_EXAMPLES = 5


class LineTooLong(ValueError):
    """A line doesn't fit into a record batch."""


def refuse_expired(first_ms: int, retention_ms: int | None) -> None:
    """Raise `OperatorError` if events from ``first_ms`` on (negative: unknown) are older than the topic's retention.

    Kafka deletes by record timestamp, so such events would vanish within minutes. ``retention_ms`` None disables the check.
    """
    if retention_ms is None or retention_ms == UNLIMITED or not 0 <= first_ms < time.time() * 1000 - retention_ms:
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(first_ms / 1000))
    raise OperatorError(
        f"the events begin on {day}, but topics.retention_ms keeps {retention_ms / 86_400_000:g} days and Kafka deletes by "
        "event time: set topics.retention_ms = -1 (and the topic's retention.ms) to keep imported history"
    )


@dataclass(slots=True)
class Produced:
    """What was passed to the client, and its span of event time (-1: none)."""

    events: int = 0
    poison: int = 0
    size_bytes: int = 0
    first_ms: int = -1
    last_ms: int = -1
    examples: list[str] = field(default_factory=list)  # reasons of the first poison lines


class EventProducer:
    """Sends events to ``topic``, which has ``partitions``.

    ``codec`` is none, gzip, snappy, lz4 or zstd. ``retention_ms`` is the topic's: expired events are refused (None: sent).
    """

    def __init__(
        self, topic: str, partitions: int, codec: str, options: dict[str, Any], retention_ms: int | None = None
    ) -> None:
        self.topic, self.partitions, self.codec = topic, partitions, codec
        self.produced = Produced()
        self._options, self._retention_ms = options, retention_ms
        self._columns = empty_columns(BLOCK_EVENTS)
        self._out = np.empty(BATCH_BYTES, np.uint8)
        self._scratch = np.empty(SCRATCH, np.uint8)
        self._in_flight: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Connect."""
        self._producer = ExistingTopicsProducer(enable_idempotence=True, **self._options)
        await self._producer.start()

    async def stop(self) -> None:
        """Wait for all acknowledgements and disconnect."""
        try:
            await self.flush()
        finally:
            await self._producer.stop()

    async def flush(self) -> None:
        """Wait until the broker has acknowledged everything; raise the first failure."""
        if self._in_flight:
            await asyncio.gather(*self._in_flight)

    async def send(self, text: bytes) -> None:
        """Send all events of ``text``, which ends with a line break; waits while `IN_FLIGHT` batches are unacknowledged."""
        raw, at = np.frombuffer(text, np.uint8), 0
        while at < len(text):
            count, used = scan_lines(raw[at:], self._columns)
            if not used:
                raise LineTooLong("the text doesn't end with a line break")
            lines = raw[at : at + used]
            for partition, batch in self._batches(lines, count):
                await self._send(partition, batch)
            at += used

    def _batches(self, lines: npt.NDArray[np.uint8], count: int) -> Iterator[tuple[int, ColumnBatch]]:
        columns, produced = self._columns, self.produced
        settled = settle(
            columns, count, lambda i: lines[columns.start[i] : columns.start[i] + columns.length[i]].tobytes()
        )
        self._count_poison(settled.poison)
        ready = np.flatnonzero(columns.status[:count] == READY)
        if len(ready):
            self._count_span(columns.ts_ms[ready])
            refuse_expired(produced.first_ms, self._retention_ms)
        owner = partitions_of_keys(columns.key[ready], self.partitions)
        for partition in range(self.partitions):
            chosen = ready[owner == partition]
            while len(chosen):
                written, size = write_records(lines, columns, chosen, self._scratch, self._out)
                if not written:
                    raise LineTooLong(f"a line of {columns.length[chosen[0]]} bytes doesn't fit into a record batch")
                times_ms = columns.ts_ms[chosen[:written]]
                span_ms = int(times_ms[0]), int(times_ms.max())
                produced.events += written
                produced.size_bytes += size
                yield partition, ColumnBatch(self._out[:size].tobytes(), written, span_ms, codec=self.codec)
                chosen = chosen[written:]

    def _count_span(self, times_ms: npt.NDArray[np.int64]) -> None:
        first_ms, produced = int(times_ms.min()), self.produced
        produced.first_ms = first_ms if produced.first_ms < 0 else min(produced.first_ms, first_ms)
        produced.last_ms = max(produced.last_ms, int(times_ms.max()))

    def _count_poison(self, poison: list[Poison]) -> None:
        self.produced.poison += len(poison)
        room = MAX_EXAMPLES - len(self.produced.examples)
        self.produced.examples += [record.reason for record in poison[:room]]

    async def _send(self, partition: int, batch: ColumnBatch) -> None:
        while len(self._in_flight) >= IN_FLIGHT:
            done, _ = await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
            self._in_flight -= done
        self._in_flight.add(await self._producer.send_batch(batch, self.topic, partition=partition))
