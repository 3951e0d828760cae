"""Record batches made by three writers, damaged on purpose, and read as the engine reads a fetch."""

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
from tests.support.kernels import octets_of
from topics.columns.batches import (
    BATCH,
    SMALLEST_RECORD,
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
    """A record as its writer was given it."""

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
    """The batch as the broker stores it at an offset (which no checksum covers)."""
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
    """A zigzag varint of any 64-bit value."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 127:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def nullable(text: bytes | None) -> bytes:
    return b"\x01" if text is None else field(text)


def record_of(offset_delta: int, sent: Sent, base_ms: int) -> bytes:
    """A record in its wire form, by hand."""
    headers = b"".join(field(name.encode()) + nullable(value) for name, value in sent.headers)
    delta = signed_varint(sent.timestamp_ms - base_ms) + signed_varint(offset_delta)
    return field(b"\0" + delta + nullable(sent.key) + nullable(sent.value) + signed_varint(len(sent.headers)) + headers)


def by_columns(records: Sequence[Sent], codec: str = "none") -> bytes:
    stamps = [record.timestamp_ms for record in records]
    section = b"".join(record_of(i, record, stamps[0]) for i, record in enumerate(records))
    return ColumnBatch(section, len(records), (stamps[0], max(stamps)), codec=codec)._build()


WRITERS = {"aiokafka": by_aiokafka, "kafka-python": by_kafka_python, "tidegate": by_columns}


PLACES = {
    "attributes": (21, ">h"),
    "last_delta": (23, ">i"),
    "base_ms": (27, ">q"),
    "most_ms": (35, ">q"),
    "producer_id": (43, ">q"),
    "count": (57, ">i"),
}


def resealed(batch: bytes, **fields: int) -> bytes:
    """The batch with other head fields, then the length and checksum that its octets have."""
    changed = bytearray(batch)
    for name, value in fields.items():
        at, form = PLACES[name]
        struct.pack_into(form, changed, at, value)
    struct.pack_into(">i", changed, 8, len(changed) - 12)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


def section_batch(section: bytes, count: int, codec: int = 0, last_delta: int | None = None) -> bytes:
    """A sound batch around any records section that is already compressed."""
    plain = ColumnBatch(section, count, (1000, 2000), codec="none")._build()
    return resealed(plain, attributes=codec, last_delta=count - 1 if last_delta is None else last_delta)


class Got(NamedTuple):
    """A record as the engine's columns have it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Fetch(NamedTuple):
    """What became of a fetch: its complete batches and the octets that they filled, and the records."""

    batches: npt.NDArray[Any]
    used: int
    records: list[Got]


def guarded_columns(batches: npt.NDArray[Any]) -> tuple[RecordColumns, RecordColumns]:
    """Columns with room for what the batches can hold, and the same with some room behind that must stay untouched."""
    most = int(np.minimum((batches["end"] - batches["start"]) // SMALLEST_RECORD, batches["records"].clip(0)).sum())
    whole = empty_records(most + SPARE)
    for column in whole[:-1]:
        column[:] = UNTOUCHED
    return RecordColumns._make(column[:most] for column in whole), whole


def _slice(source: npt.NDArray[np.uint8], start: int, length: int) -> bytes | None:
    return None if length < 0 else source[start : start + length].tobytes()


def records_in(
    octets: npt.NDArray[np.uint8], arena: npt.NDArray[np.uint8], batches: npt.NDArray[Any], first: int
) -> list[Got]:
    """`read_records` as plain objects; checks that nothing was written behind the columns."""
    columns, whole = guarded_columns(batches)
    count = read_records(octets, arena, batches, first, columns)
    assert all((column[-SPARE:] == UNTOUCHED).all() for column in whole[:-1])
    found = []
    for i in range(count):
        source = arena if columns.unpacked[i] else octets
        key, value = ((columns.key_start, columns.key_length), (columns.start, columns.length))
        texts = [_slice(source, int(start[i]), int(length[i])) for start, length in (key, value)]
        found.append(Got(int(columns.offset[i]), int(columns.record_ms[i]), *texts))
    return found


def unpacked_arena(octets: bytes, batches: npt.NDArray[Any], room: int = 64) -> npt.NDArray[np.uint8]:
    """The batches decompressed, not to be written to any more."""
    arena = unpack(octets, batches, np.empty(room, np.uint8)).view()
    arena.flags.writeable = False
    return arena


def fetch(octets: bytes, first_offset: int = 0, *, check_crc: bool = True, room: int = 64) -> Fetch:
    """Read a fetch as the engine does. ``room``: octets of the arena at first."""
    view, found = octets_of(octets), np.zeros(64, BATCH)
    count, used = find_batches(view, 0, check_crc, found)
    sound = found[: int(found["sound"][:count].sum())]  # the engine hands on only these: an unsound one is the last
    arena = unpacked_arena(octets, sound, room)
    return Fetch(found[:count], used, records_in(view, arena, sound, first_offset))


def wanted(records: Sequence[Sent], base_offset: int = 0) -> list[Got]:
    """What a consumer has to be given of these records."""
    return [Got(base_offset + i, sent.timestamp_ms, sent.key, sent.value) for i, sent in enumerate(records)]
