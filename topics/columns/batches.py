"""Kafka record batches (format v2) to columns: find and check the batches of a fetch, unpack them, read their records.

Format: https://kafka.apache.org/documentation/#recordbatch (magic 2, the only one that Kafka 4 serves). A fetch may start
before the requested offset and end inside a batch. Records below ``first_offset`` are dropped; the incomplete batch is left
for the next fetch. Malformed input gives a status, never a read outside the buffers.

Limit: all batches of a fetch together unpack to at most MAX_UNPACKED_BYTES. A batch that doesn't fit, such as a decompression
bomb, is marked unsound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cramjam
import numpy as np
import numpy.typing as npt

from topics.columns.crc import crc32c
from topics.columns.jit import inline, kernel
from topics.columns.memory import big32, byte_at, byte_swap, int64, load64
from topics.columns.scan import POISON, scan_event

BATCH_HEAD = 61
MIN_RECORD_BYTES = 7  # length, attributes, two deltas, null key, null value, no headers
MAX_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 1 << 15  # of unpacked to packed: zstd can make 128 KiB of four bytes
CODEC_MASK, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
XERIAL = b"\x82SNAPPY\x00"

BATCH = np.dtype(
    [
        ("base_offset", "i8"),
        ("last_offset", "i8"),
        ("base_ms", "i8"),
        ("most_ms", "i8"),
        ("producer_id", "i8"),
        ("start", "i8"),  # the records section, in the fetch or in the unpacked buffer
        ("end", "i8"),
        ("records", "i4"),
        ("attributes", "i4"),
        ("sound", "u1"),  # 0: wrong CRC, magic or size, or malformed records
        ("unpacked", "u1"),  # 1: start and end are in the unpacked buffer
        ("skip", "u1"),  # 1: control batch or aborted transaction, not to be read
    ],
    align=True,
)


@inline
def _big64(buffer: Any, at: int) -> int:
    return int64(byte_swap(load64(buffer, at)))


@kernel
def find_batches(buffer: Any, at: int, check_crc: bool, batches: Any) -> Any:
    """Fill ``batches`` (BATCH[]) with the complete batches of ``buffer[at:]`` (uint8).

    Return (number of batches, position after the last sound one). An unsound batch is the last one filled.
    """
    size, n = buffer.shape[0], 0
    while n < batches.shape[0] and at + BATCH_HEAD <= size:
        length = int64(np.int32(big32(buffer, at + 8)))
        end = at + 12 + length
        sound = length >= BATCH_HEAD - 12 and byte_at(buffer, at + 16) == 2
        if sound and end > size:
            break
        batch = batches[n]
        batch.base_offset = _big64(buffer, at)
        batch.attributes = (byte_at(buffer, at + 21) << 8) | byte_at(buffer, at + 22)
        batch.last_offset = batch.base_offset + np.int32(big32(buffer, at + 23))
        batch.base_ms = _big64(buffer, at + 27)
        batch.most_ms = _big64(buffer, at + 35)
        batch.producer_id = _big64(buffer, at + 43)
        batch.records = np.int32(big32(buffer, at + 57))
        batch.start, batch.end = at + BATCH_HEAD, end
        batch.unpacked = batch.skip = 0
        if sound and check_crc:
            sound = int64(crc32c(buffer, at + 21, end)) == big32(buffer, at + 17)
        batch.sound = sound
        n += 1
        if not sound:
            break
        at = end
    return n, at


def unpack(buffer: bytes, batches: npt.NDArray[Any], arena: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Decompress the compressed, unskipped ``batches`` of a fetch into ``arena`` and return it, or a larger copy of it.

    Sets ``start``, ``end`` and ``unpacked`` of each batch to its range in the arena, and marks a batch that can't be
    decompressed as unsound.
    """
    used = 0
    for i in np.flatnonzero((batches["attributes"] & CODEC_MASK != 0) & (batches["skip"] == 0)):
        start, end, codec = int(batches["start"][i]), int(batches["end"][i]), int(batches["attributes"][i]) & CODEC_MASK
        packed = memoryview(buffer)[start:end]
        while True:
            try:
                size = _decompress(codec, packed, memoryview(arena.data)[used:])
            except cramjam.DecompressionError:
                if used + len(packed) * MAX_RATIO < len(arena) or len(arena) >= MAX_UNPACKED_BYTES:
                    batches["sound"][i] = 0
                    break
                arena = _larger(arena, used)
                continue
            batches["start"][i], batches["end"][i], batches["unpacked"][i] = used, used + size, 1
            used += size
            break
    return arena


def _larger(arena: npt.NDArray[np.uint8], used: int) -> npt.NDArray[np.uint8]:
    larger = np.empty(min(2 * len(arena), MAX_UNPACKED_BYTES), np.uint8)
    larger[:used] = arena[:used]
    return larger


def _decompress(codec: int, packed: memoryview, room: memoryview) -> int:
    """Return the bytes written to ``room``. Raise `cramjam.DecompressionError` if they don't fit or the input is damaged."""
    if codec == LZ4:
        return int(cramjam.lz4.decompress_into(packed, room))
    if codec == ZSTD:
        return int(cramjam.zstd.decompress_into(packed, room))
    if codec == GZIP:
        return int(cramjam.gzip.decompress_into(packed, room))
    if codec == SNAPPY:
        return _decompress_snappy(packed, room)
    raise cramjam.DecompressionError(f"unknown compression codec {codec}")


def _decompress_snappy(packed: memoryview, room: memoryview) -> int:
    """Decompress raw snappy, or xerial's framing of it: magic, two versions, then pairs of big-endian length and raw block."""
    if bytes(packed[:8]) != XERIAL:
        return int(cramjam.snappy.decompress_raw_into(packed, room))
    at, used = 16, 0
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        if at + 4 + size > len(packed):
            raise cramjam.DecompressionError("cut snappy block")
        used += int(cramjam.snappy.decompress_raw_into(packed[at + 4 : at + 4 + size], room[used:]))
        at += 4 + size
    return used


class RecordColumns(NamedTuple):
    """The records of a fetch, one array per field."""

    offset: npt.NDArray[np.int64]
    record_ms: npt.NDArray[np.int64]  # timestamp
    key_start: npt.NDArray[np.int32]
    key_length: npt.NDArray[np.int32]  # -1 for null
    start: npt.NDArray[np.int32]  # of the value
    length: npt.NDArray[np.int32]  # of the value, -1 for null
    unpacked: npt.NDArray[np.uint8]  # the buffer that has key and value; 0: as fetched, 1: the arena


def empty_records(capacity: int) -> RecordColumns:
    """Return columns for ``capacity`` records of any topic."""
    kinds = (np.int64, np.int64, np.int32, np.int32, np.int32, np.int32, np.uint8)
    return RecordColumns._make(np.zeros(capacity, kind) for kind in kinds)


@inline
def _varint(buffer: Any, at: int, end: int) -> Any:
    """Return (position after it, value) of a zigzag varint of at most 10 bytes; position -1 if it isn't inside the record."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(70):
        byte = byte_at(buffer, at)
        at += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 128:
            return at, int64(value >> np.uint64(1)) ^ -int64(value & np.uint64(1))
        shift += np.uint64(7)
    return int64(-1), int64(0)


@inline
def _field(buffer: Any, at: int, end: int) -> Any:
    """Return (position after it, start, length) of a length-prefixed field; length -1: null, position -1: malformed."""
    at, length = _varint(buffer, at, end)
    if at < 0 or length < -1 or length > end - at:
        return int64(-1), int64(0), int64(0)
    return at + max(length, 0), at, length


@inline
def _read_record(buffer: Any, at: int, end: int) -> Any:
    """Return (end or -1, timestamp delta, offset delta, key start, key length, value start, value length). Skips headers."""
    bad = (int64(-1), int64(0), int64(0), int64(0), int64(0), int64(0), int64(0))
    at, length = _varint(buffer, at, end)
    if at < 0 or length < 1 or length > end - at:
        return bad
    end = at + length
    at, delta_ms = _varint(buffer, at + 1, end)
    if at < 0:
        return bad
    at, delta = _varint(buffer, at, end)
    if at < 0:
        return bad
    at, key_start, key_length = _field(buffer, at, end)
    if at < 0:
        return bad
    at, start, value_length = _field(buffer, at, end)
    if at < 0 or at >= end:  # the number of headers follows at least: no record is shorter than MIN_RECORD_BYTES
        return bad
    return end, delta_ms, delta, key_start, key_length, start, value_length


@kernel
def read_records(buffer: Any, arena: Any, batches: Any, first_offset: int, columns: Any) -> int:
    """Fill RecordColumns with the records from ``first_offset`` on of all sound, unskipped batches and return their number.

    Marks a batch as unsound at its first malformed record. ``columns`` must have room for all records.
    """
    n = 0
    for b in range(batches.shape[0]):
        batch = batches[b]
        if not batch.sound or batch.skip:
            continue
        source = arena if batch.unpacked else buffer
        at = batch.start
        for _ in range(batch.records):
            at, delta_ms, delta, key_start, key_length, start, length = _read_record(source, at, batch.end)
            if at < 0 or delta < 0 or delta > batch.last_offset - batch.base_offset:
                batch.sound = 0
                break
            if batch.base_offset + delta < first_offset:
                continue
            columns.offset[n] = batch.base_offset + delta
            columns.record_ms[n] = batch.most_ms if batch.attributes & APPEND_TIME else batch.base_ms + delta_ms
            columns.key_start[n], columns.key_length[n] = key_start, key_length
            columns.start[n], columns.length[n] = start, length
            columns.unpacked[n] = batch.unpacked
            n += 1
    return n


@kernel
def read_events(buffer: Any, arena: Any, batches: Any, first_offset: int, columns: Any) -> int:
    """Fill EventColumns as `read_records` does. Scans each value while it is in the CPU cache; a null value is POISON."""
    n = 0
    for b in range(batches.shape[0]):
        batch = batches[b]
        if not batch.sound or batch.skip:
            continue
        source = arena if batch.unpacked else buffer
        base_offset, end, unpacked = batch.base_offset, batch.end, batch.unpacked
        last_delta = batch.last_offset - base_offset
        append_time = batch.attributes & APPEND_TIME
        at = batch.start
        for _ in range(batch.records):
            at, delta_ms, delta, _, _, start, length = _read_record(source, at, end)
            if at < 0 or delta < 0 or delta > last_delta:
                batch.sound = 0
                break
            if base_offset + delta < first_offset:
                continue
            columns.offset[n] = base_offset + delta
            columns.record_ms[n] = batch.most_ms if append_time else batch.base_ms + delta_ms
            columns.start[n], columns.length[n] = start, length
            columns.unpacked[n] = unpacked
            columns.status[n] = POISON if length < 0 else scan_event(source, start, start + length, columns, n)
            n += 1
    return n
