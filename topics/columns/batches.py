"""Kafka record batches (format v2) to columns: find and check the batches of a fetch, unpack them, read their records.

Format: https://kafka.apache.org/documentation/#recordbatch (magic 2, the only one that Kafka 4 serves). A fetch may start
before the offset that was asked for and end inside a batch: records below ``first_offset`` are dropped, the cut batch is
left for the next fetch. Malformed input yields a status, never a read outside the buffers.

Limit: the batches of a fetch may unpack to MOST_UNPACKED octets, all together; those that don't fit any more (behind, or
themselves, a decompression bomb) are reported as undecodable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cramjam
import numpy as np
import numpy.typing as npt

from topics.columns.crc import crc32c
from topics.columns.jit import inline, kernel
from topics.columns.memory import big32, byte_swap, int64, octet, octets8
from topics.columns.scan import POISON, scan_event

BATCH_HEAD = 61
SMALLEST_RECORD = 7  # octets: length, attributes, two deltas, null key, null value, no headers
MOST_UNPACKED = 256 << 20
MOST_RATIO = 1 << 15  # of unpacked to packed: zstd can make 128 KiB of four octets
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
        ("sound", "u1"),  # 0: wrong CRC, magic or size
        ("unpacked", "u1"),  # 1: start and end are in the unpacked buffer
        ("skip", "u1"),  # 1: control or aborted batch, not to be read
    ],
    align=True,
)


@inline
def _big64(octets: Any, at: int) -> int:
    return int64(byte_swap(octets8(octets, at)))


@kernel
def find_batches(octets: Any, at: int, check_crc: bool, batches: Any) -> Any:
    """Fill ``batches`` (BATCH[]) with the complete batches of ``octets[at:]`` (uint8); gives (batches found, position
    behind the last one). Stops at a batch that isn't sound, which is the last one given."""
    size, n = octets.shape[0], 0
    while n < batches.shape[0] and at + BATCH_HEAD <= size:
        length = int64(np.int32(big32(octets, at + 8)))
        end = at + 12 + length
        sound = length >= BATCH_HEAD - 12 and octet(octets, at + 16) == 2
        if sound and end > size:
            break
        batch = batches[n]
        batch.base_offset = _big64(octets, at)
        batch.attributes = (octet(octets, at + 21) << 8) | octet(octets, at + 22)
        batch.last_offset = batch.base_offset + np.int32(big32(octets, at + 23))
        batch.base_ms = _big64(octets, at + 27)
        batch.most_ms = _big64(octets, at + 35)
        batch.producer_id = _big64(octets, at + 43)
        batch.records = np.int32(big32(octets, at + 57))
        batch.start, batch.end = at + BATCH_HEAD, end
        batch.unpacked = batch.skip = 0
        if sound and check_crc:
            sound = int64(crc32c(octets, at + 21, end)) == big32(octets, at + 17)
        batch.sound = sound
        n += 1
        if not sound:
            break
        at = end
    return n, at


def unpack(octets: bytes, batches: npt.NDArray[Any], arena: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Decompress the compressed, unskipped ``batches`` of a fetch into ``arena``; gives the arena, a larger one if need be.

    ``start``/``end``/``unpacked`` of each batch then point into it. A batch that can't be decompressed is marked unsound.
    """
    used = 0
    for i in np.flatnonzero((batches["attributes"] & CODEC_MASK != 0) & (batches["skip"] == 0)):
        start, end, codec = int(batches["start"][i]), int(batches["end"][i]), int(batches["attributes"][i]) & CODEC_MASK
        packed = memoryview(octets)[start:end]
        while True:
            try:
                size = _decompress(codec, packed, memoryview(arena.data)[used:])
            except cramjam.DecompressionError:
                if used + len(packed) * MOST_RATIO < len(arena) or len(arena) >= MOST_UNPACKED:
                    batches["sound"][i] = 0
                    break
                arena = _larger(arena, used)
                continue
            batches["start"][i], batches["end"][i], batches["unpacked"][i] = used, used + size, 1
            used += size
            break
    return arena


def _larger(arena: npt.NDArray[np.uint8], used: int) -> npt.NDArray[np.uint8]:
    larger = np.empty(min(2 * len(arena), MOST_UNPACKED), np.uint8)
    larger[:used] = arena[:used]
    return larger


def _decompress(codec: int, packed: memoryview, room: memoryview) -> int:
    """Octets written to ``room``; `cramjam.DecompressionError` when they don't fit or the input is damaged."""
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
    """Raw snappy, or xerial's framing of it: magic, two versions, then (big-endian length, raw block) again and again."""
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
    """The records of a fetch: ``key_length``/``value_length`` are -1 for null; places are in the buffer `unpacked` names."""

    offset: npt.NDArray[np.int64]
    record_ms: npt.NDArray[np.int64]
    key_start: npt.NDArray[np.int32]
    key_length: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    length: npt.NDArray[np.int32]
    unpacked: npt.NDArray[np.uint8]


def empty_records(capacity: int) -> RecordColumns:
    """Columns for ``capacity`` records of any topic."""
    kinds = (np.int64, np.int64, np.int32, np.int32, np.int32, np.int32, np.uint8)
    return RecordColumns._make(np.zeros(capacity, kind) for kind in kinds)


@inline
def _varint(octets: Any, at: int, end: int) -> Any:
    """(position behind, value) of a zigzag varint of at most 10 octets; position -1 when it runs out of the record."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(70):
        byte = octet(octets, at)
        at += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 128:
            return at, int64(value >> np.uint64(1)) ^ -int64(value & np.uint64(1))
        shift += np.uint64(7)
    return int64(-1), int64(0)


@inline
def _field(octets: Any, at: int, end: int) -> Any:
    """(position behind, start, length) of a length-prefixed field; length -1 is null, position -1 is malformed."""
    at, length = _varint(octets, at, end)
    if at < 0 or length < -1 or length > end - at:
        return int64(-1), int64(0), int64(0)
    return at + max(length, 0), at, length


@inline
def _read_record(octets: Any, at: int, end: int) -> Any:
    """(end or -1, timestamp delta, offset delta, key start, key length, value start, value length). Headers are passed over."""
    bad = (int64(-1), int64(0), int64(0), int64(0), int64(0), int64(0), int64(0))
    at, length = _varint(octets, at, end)
    if at < 0 or length < 1 or length > end - at:
        return bad
    end = at + length
    at, delta_ms = _varint(octets, at + 1, end)
    if at < 0:
        return bad
    at, delta = _varint(octets, at, end)
    if at < 0:
        return bad
    at, key_start, key_length = _field(octets, at, end)
    if at < 0:
        return bad
    at, start, value_length = _field(octets, at, end)
    if at < 0 or at >= end:  # at least the number of headers follows: no record is shorter than SMALLEST_RECORD
        return bad
    return end, delta_ms, delta, key_start, key_length, start, value_length


@kernel
def read_records(octets: Any, arena: Any, batches: Any, first_offset: int, columns: Any) -> int:
    """Fill RecordColumns with the records at ``first_offset`` or later of all sound, unskipped batches; their number.
    A batch whose records are malformed is marked unsound from there on. ``columns`` must be large enough."""
    n = 0
    for b in range(batches.shape[0]):
        batch = batches[b]
        if not batch.sound or batch.skip:
            continue
        source = arena if batch.unpacked else octets
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
def read_events(octets: Any, arena: Any, batches: Any, first_offset: int, columns: Any) -> int:
    """As `read_records`, into EventColumns: each value is scanned at once, while it is in the cache; a null is POISON."""
    n = 0
    for b in range(batches.shape[0]):
        batch = batches[b]
        if not batch.sound or batch.skip:
            continue
        source = arena if batch.unpacked else octets
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
