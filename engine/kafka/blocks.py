"""Fetched record batches as blocks: one object per fetch and partition, whatever the number of its records.

aiokafka's fetcher builds its record readers from two names of its module, and its consumer builds the fetcher from one.
`rebound` gives our subclasses their own bindings of those names, so nothing is patched for the rest of the process. The
reader keeps the promises of the stock one: CRC checks, control batches skipped, aborted transactions left out, and a
position after the last batch even if the fetch holds no readable record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord

from engine.kafka.clients import rebound
from engine.kafka.resilient_clients import ResilientClient
from topics.columns.batches import BATCH, CONTROL, TRANSACTIONAL, find_batches

BATCHES_PER_CALL = 1024
ABORT = 0


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Record batches of one partition, as fetched."""

    topic: str
    partition: int
    first_offset: int  # of the fetch: records below it are not part of the block
    last_offset: int  # of the last batch, readable or not
    raw: bytes
    batches: npt.NDArray[Any]  # BATCH[], all sound


class RawRecords:
    """Replaces aiokafka's MemoryRecords: keeps the bytes of a fetch as they are."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def has_next(self) -> bool:
        """Return True if there is at least one complete batch."""
        return len(self.raw) > 12 and len(self.raw) >= 12 + int.from_bytes(self.raw[8:12], "big")

    def size_in_bytes(self) -> int:
        """Return the size of the fetch, incomplete batches included."""
        return len(self.raw)


class BlockRecords(aiokafka_fetcher.PartitionRecords):  # type: ignore[misc]
    """Replaces aiokafka's PartitionRecords: yields one record, whose value is a `Block`.

    A fetch without readable records yields a block too. So each block begins after the previous one, or offsets are missing.
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        raw, first_offset = self._records.raw, self.next_fetch_offset
        batches = self._find_sound(raw)
        self._skip_unreadable(raw, batches)
        self.next_fetch_offset = last = int(batches["last_offset"][-1]) + 1
        if last <= first_offset:
            return
        tp = self._tp
        block = Block(tp.topic, tp.partition, first_offset, last - 1, raw, batches)
        timestamp_ms = int(batches["most_ms"].max())
        yield ConsumerRecord(tp.topic, tp.partition, last - 1, timestamp_ms, 0, None, block, None, -1, len(raw), ())

    def _find_sound(self, raw: bytes) -> npt.NDArray[Any]:
        """Return all complete batches, or those before the first unsound one, which then comes first in the next fetch."""
        view, at = np.frombuffer(raw, np.uint8), 0
        parts: list[npt.NDArray[Any]] = []
        while True:
            room = np.empty(BATCHES_PER_CALL, BATCH)
            count, at = find_batches(view, at, bool(self._check_crcs), room)
            parts.append(room[:count])
            if count < BATCHES_PER_CALL or not room["sound"][-1]:
                break
        batches = np.concatenate(parts)
        sound: npt.NDArray[Any] = batches[batches["sound"] == 1]
        if not len(sound):
            raise CorruptRecordException(
                f"{self._tp.topic}-{self._tp.partition}: batch at offset {self.next_fetch_offset} fails its CRC or is of "
                "a format before v2"
            )
        return sound

    def _skip_unreadable(self, raw: bytes, batches: npt.NDArray[Any]) -> None:
        """Mark control batches and those of aborted transactions."""
        special = batches["attributes"] & (CONTROL | TRANSACTIONAL)
        for i in np.flatnonzero(special):
            batch = batches[i]
            producer = int(batch["producer_id"])
            self._consume_aborted_up_to(int(batch["base_offset"]))
            if special[i] & CONTROL:
                batch["skip"] = 1
                if _control_type(raw, int(batch["start"])) == ABORT:
                    self._aborted_producers.discard(producer)
            elif producer in self._aborted_producers:
                batch["skip"] = 1


def _control_type(raw: bytes, start: int) -> int:
    """Return the type of a control record: 0 abort, 1 commit.

    Its key is version int16, type int16, after five fields of one byte (length, attributes, two deltas, key length).
    """
    return int.from_bytes(raw[start + 7 : start + 9], "big")


class BlockFetcher(aiokafka_fetcher.Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher with blocks for records."""

    _proc_fetch_request = rebound(
        aiokafka_fetcher.Fetcher._proc_fetch_request, MemoryRecords=RawRecords, PartitionRecords=BlockRecords
    )


class BlockConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer with blocks for records, of committed transactions only."""

    ISOLATION: ClassVar[str] = "read_committed"

    def __init__(self, *topics: str, **options: Any) -> None:
        self._stock(*topics, **{**options, "isolation_level": self.ISOLATION})

    _stock = rebound(AIOKafkaConsumer.__init__, AIOKafkaClient=ResilientClient)
    start = rebound(AIOKafkaConsumer.start, Fetcher=BlockFetcher)
