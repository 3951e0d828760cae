"""Fetched record batches as blocks: one object a fetch and partition, whatever the number of its records.

aiokafka's fetcher builds its record readers from two names of its module, and its consumer builds the fetcher from one.
`rebound` gives our subclasses their own bindings of those names, so nothing is patched for the rest of the process. The
reader here keeps what the stock one promises: CRC checks, control batches skipped, aborted transactions left out, position
behind the last batch even when nothing in it was to be read.
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

from engine.kafka.resilient_clients import PatientClient, rebound
from topics.columns.batches import BATCH, CONTROL, TRANSACTIONAL, find_batches

BATCHES_A_CALL = 1024
ABORT = 0


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Record batches of one partition, as fetched. ``octets``: the raw fetch; ``batches``: BATCH[], all sound;
    ``first_offset``: where the fetch began, records below it are not part of the block; ``last_offset`` includes
    trailing batches that hold nothing to read."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    octets: bytes
    batches: npt.NDArray[Any]


class RawRecords:
    """Takes the place of aiokafka's MemoryRecords: keeps the octets of a fetch as they are."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def has_next(self) -> bool:
        """Whether there is at least one complete batch."""
        return len(self.octets) > 12 and len(self.octets) >= 12 + int.from_bytes(self.octets[8:12], "big")

    def size_in_bytes(self) -> int:
        """Octets fetched, complete batches or not."""
        return len(self.octets)


class BlockRecords(aiokafka_fetcher.PartitionRecords):  # type: ignore[misc]
    """Takes the place of aiokafka's PartitionRecords: yields one record, whose value is a `Block`. Also when nothing in it is
    to be read: so each block begins behind the one before it, or offsets are missing."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        octets, first_offset = self._records.octets, self.next_fetch_offset
        batches = self._find(octets)
        self._skip(octets, batches)
        self.next_fetch_offset = last = int(batches["last_offset"][-1]) + 1
        if last <= first_offset:
            return
        tp = self._tp
        block = Block(tp.topic, tp.partition, first_offset, last - 1, octets, batches)
        stamp = int(batches["most_ms"].max())
        yield ConsumerRecord(tp.topic, tp.partition, last - 1, stamp, 0, None, block, None, -1, len(octets), ())

    def _find(self, octets: bytes) -> npt.NDArray[Any]:
        """All complete batches; those before an unsound one if there are any, so that it comes first next time."""
        view, at = np.frombuffer(octets, np.uint8), 0
        found: list[npt.NDArray[Any]] = []
        while True:
            room = np.empty(BATCHES_A_CALL, BATCH)
            count, at = find_batches(view, at, bool(self._check_crcs), room)
            found.append(room[:count])
            if count < BATCHES_A_CALL or not room["sound"][-1]:
                break
        batches = np.concatenate(found)
        sound: npt.NDArray[Any] = batches[batches["sound"] == 1]
        if not len(sound):
            raise CorruptRecordException(
                f"{self._tp.topic}-{self._tp.partition}: batch at offset {self.next_fetch_offset} fails its CRC or is of "
                "a format before v2"
            )
        return sound

    def _skip(self, octets: bytes, batches: npt.NDArray[Any]) -> None:
        """Mark control batches and those of aborted transactions."""
        special = batches["attributes"] & (CONTROL | TRANSACTIONAL)
        for i in np.flatnonzero(special):
            batch = batches[i]
            producer = int(batch["producer_id"])
            self._consume_aborted_up_to(int(batch["base_offset"]))
            if special[i] & CONTROL:
                batch["skip"] = 1
                if _control_type(octets, int(batch["start"])) == ABORT:
                    self._aborted_producers.discard(producer)
            elif producer in self._aborted_producers:
                batch["skip"] = 1


def _control_type(octets: bytes, start: int) -> int:
    """The type of a control record (0 abort, 1 commit): its key is version int16, type int16, behind five
    one-octet fields (length, attributes, two deltas, key length)."""
    return int.from_bytes(octets[start + 7 : start + 9], "big")


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

    _stock = rebound(AIOKafkaConsumer.__init__, AIOKafkaClient=PatientClient)
    start = rebound(AIOKafkaConsumer.start, Fetcher=BlockFetcher)
