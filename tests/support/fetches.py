"""Record batches of three writers, intact and damaged, and read as the engine reads a fetch."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import strategies as st
from kafka.record import MemoryRecordsBuilder

from tests.oracles.records import CODECS, crc32c
from tests.support.kernels import byte_array
from topics.columns.batches import (
    BATCH,
    MIN_RECORD_BYTES,
    RecordColumns,
    empty_records,
    find_batches,
    read_records,
    unpack,
)
from topics.columns.batchwrite import ColumnBatch, field

ROOM = 1 << 20
SPARE = 16
UNTOUCHED = -7_777_777


class Sent(NamedTuple):
    """A record as it is given to a writer."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


TEXTS = st.binary(max_size=30) | st.binary(min_size=60, max_size=140)
SENT = st.builds(
    Sent,
    st.integers(0, 2**42),
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=8)), max_size=2).map(tuple),
)
RECORDS = st.lists(SENT, min_size=1, max_size=12)


def at_offset(batch: bytes, base_offset: int) -> bytes:
    """Return the batch as the broker stores it at an offset, which no checksum covers."""
    return struct.pack(">q", base_offset) + batch[8:]


def by_aiokafka(records: Sequence[Sent], codec: str = "none", **options: int) -> bytes:
    given = {"is_transactional": 0, "producer_id": -1, "producer_epoch": -1, "base_sequence": -1} | options
    builder = DefaultRecordBatchBuilder(2, CODECS.index(codec), batch_size=ROOM, **given)
    for i, record in enumerate(records):
        assert builder.append(i, record.timestamp_ms, record.key, record.value, list(record.headers)) is not None
    return bytes(builder.build())


def by_kafka_python(records: Sequence[Sent], codec: str = "none") -> bytes:
    builder = MemoryRecordsBuilder(2, CODECS.index(codec), ROOM)
    for record in records:
        assert builder.append(record.timestamp_ms, record.key, record.value, list(record.headers)) is not None
    builder.close()
    return bytes(builder.buffer())


def signed_varint(value: int) -> bytes:
    """Return a zigzag varint of any 64-bit value."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 127:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def nullable(text: bytes | None) -> bytes:
    return b"\x01" if text is None else field(text)


def record_of(offset_delta: int, sent: Sent, base_ms: int) -> bytes:
    """Return a record in its wire form, independent of the engine."""
    headers = b"".join(field(name.encode()) + nullable(value) for name, value in sent.headers)
    delta = signed_varint(sent.timestamp_ms - base_ms) + signed_varint(offset_delta)
    return field(b"\0" + delta + nullable(sent.key) + nullable(sent.value) + signed_varint(len(sent.headers)) + headers)


def by_columns(records: Sequence[Sent], codec: str = "none") -> bytes:
    times_ms = [record.timestamp_ms for record in records]
    section = b"".join(record_of(i, record, times_ms[0]) for i, record in enumerate(records))
    return ColumnBatch(section, len(records), (times_ms[0], max(times_ms)), codec=codec)._build()


WRITERS = {"aiokafka": by_aiokafka, "kafka-python": by_kafka_python, "tidegate": by_columns}


HEAD_FIELDS = {
    "attributes": (21, ">h"),
    "last_delta": (23, ">i"),
    "base_ms": (27, ">q"),
    "most_ms": (35, ">q"),
    "producer_id": (43, ">q"),
    "count": (57, ">i"),
}


def resealed(batch: bytes, **fields: int) -> bytes:
    """Return the batch with other head fields and the length and checksum that match."""
    changed = bytearray(batch)
    for name, value in fields.items():
        at, form = HEAD_FIELDS[name]
        struct.pack_into(form, changed, at, value)
    struct.pack_into(">i", changed, 8, len(changed) - 12)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


def section_batch(section: bytes, count: int, codec: int = 0, last_delta: int | None = None) -> bytes:
    """Return a sound batch of any records section, which may be compressed."""
    plain = ColumnBatch(section, count, (1000, 2000), codec="none")._build()
    return resealed(plain, attributes=codec, last_delta=count - 1 if last_delta is None else last_delta)


class Got(NamedTuple):
    """A record as the engine's columns have it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Fetch(NamedTuple):
    """The result of reading a fetch: its complete batches, the bytes that they take, and the records."""

    batches: npt.NDArray[Any]
    used: int
    records: list[Got]


def guarded_columns(batches: npt.NDArray[Any]) -> tuple[RecordColumns, RecordColumns]:
    """Return columns for as many records as the batches can have, and the same with spare rows that must stay unchanged."""
    limit = int(np.minimum((batches["end"] - batches["start"]) // MIN_RECORD_BYTES, batches["records"].clip(0)).sum())
    whole = empty_records(limit + SPARE)
    for column in whole[:-1]:
        column[:] = UNTOUCHED
    return RecordColumns._make(column[:limit] for column in whole), whole


def _slice(source: npt.NDArray[np.uint8], start: int, length: int) -> bytes | None:
    return None if length < 0 else source[start : start + length].tobytes()


def records_in(
    buffer: npt.NDArray[np.uint8], arena: npt.NDArray[np.uint8], batches: npt.NDArray[Any], first: int
) -> list[Got]:
    """Return the result of `read_records` as objects; checks that nothing was written after the columns."""
    columns, whole = guarded_columns(batches)
    count = read_records(buffer, arena, batches, first, columns)
    assert all((column[-SPARE:] == UNTOUCHED).all() for column in whole[:-1])
    found = []
    for i in range(count):
        source = arena if columns.unpacked[i] else buffer
        key, value = ((columns.key_start, columns.key_length), (columns.start, columns.length))
        texts = [_slice(source, int(start[i]), int(length[i])) for start, length in (key, value)]
        found.append(Got(int(columns.offset[i]), int(columns.record_ms[i]), *texts))
    return found


def unpacked_arena(buffer: bytes, batches: npt.NDArray[Any], room: int = 64) -> npt.NDArray[np.uint8]:
    """Return the decompressed batches, read-only."""
    arena = unpack(buffer, batches, np.empty(room, np.uint8)).view()
    arena.flags.writeable = False
    return arena


def fetch(buffer: bytes, first_offset: int = 0, *, check_crc: bool = True, room: int = 64) -> Fetch:
    """Read a fetch as the engine does. ``room`` is the first size of the arena in bytes."""
    view, found = byte_array(buffer), np.zeros(64, BATCH)
    count, used = find_batches(view, 0, check_crc, found)
    sound = found[: int(found["sound"][:count].sum())]  # the engine reads only these: an unsound one is the last
    arena = unpacked_arena(buffer, sound, room)
    return Fetch(found[:count], used, records_in(view, arena, sound, first_offset))


def wanted(records: Sequence[Sent], base_offset: int = 0) -> list[Got]:
    """Return what a consumer must get of these records."""
    return [Got(base_offset + i, sent.timestamp_ms, sent.key, sent.value) for i, sent in enumerate(records)]
