"""Record batches for the simulated cluster: written, read, thinned by compaction; and transaction markers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tests.oracles.records import CODECS, HEAD, Reader, unpack
from tests.support.fetches import Sent, record_of
from topics.columns.batchwrite import ColumnBatch
from topics.columns.crc import checksum

CONTROL_AND_TRANSACTIONAL = 0x30
ABORT, COMMIT = 0, 1


class Kept(NamedTuple):
    """A record of a batch, by its offset within it."""

    delta: int
    key: bytes | None
    value: bytes | None


def placed(batch: bytes, base_offset: int) -> bytes:
    """Return the batch as the broker stores it at an offset, which no checksum covers."""
    return struct.pack(">q", base_offset) + batch[8:]


def resealed(batch: bytes, *, last_delta: int | None = None, attributes: int | None = None) -> bytes:
    """Return the batch with other header fields and a valid checksum."""
    changed = bytearray(batch)
    if attributes is not None:
        struct.pack_into(">h", changed, 21, attributes)
    if last_delta is not None:
        struct.pack_into(">i", changed, 23, last_delta)
    struct.pack_into(">I", changed, 17, checksum(np.frombuffer(changed, np.uint8)[21:].copy()))
    return bytes(changed)


def batch_of(records: Sequence[Sent], codec: str) -> bytes:
    """Return a batch of consecutive records, at offset 0."""
    times_ms = [record.timestamp_ms for record in records]
    section = b"".join(record_of(i, record, times_ms[0]) for i, record in enumerate(records))
    return ColumnBatch(section, len(records), (times_ms[0], max(times_ms)), codec=codec)._build()


def records_in(batch: bytes) -> list[Kept]:
    """Return the records of a batch, without checking its checksum."""
    attributes, count = HEAD.unpack_from(batch)[5], HEAD.unpack_from(batch)[12]
    reader, records = Reader(unpack(CODECS[attributes & 7], batch[HEAD.size :])), list[Kept]()
    for _ in range(count):
        record = Reader(reader.field() or b"")
        record.read(1)
        record.varint()
        records.append(Kept(record.varint(), record.field(), record.field()))
    return records


def thinned(batch: bytes, kept: Sequence[Kept]) -> bytes:
    """Return the batch with only the ``kept`` records: same offsets, same producer."""
    _, _, _, _, _, _, last_delta, _, _, producer_id, producer_epoch, sequence, _ = HEAD.unpack_from(batch)
    section = b"".join(record_of(record.delta, Sent(0, record.key, record.value), 0) for record in kept)
    smaller = ColumnBatch(section, len(kept), (0, 0), transactional=True)
    smaller._set_producer_state(producer_id, producer_epoch, sequence)
    return placed(resealed(smaller._build(), last_delta=last_delta), int.from_bytes(batch[:8], "big"))


def marker(kind: int, producer_id: int, producer_epoch: int) -> bytes:
    """Return the control batch that ends a transaction: ``kind`` is COMMIT or ABORT."""
    record = record_of(0, Sent(0, struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0)), 0)
    control = ColumnBatch(record, 1, (0, 0), codec="none")
    control._set_producer_state(producer_id, producer_epoch, -1)
    return resealed(control._build(), attributes=CONTROL_AND_TRANSACTIONAL)
