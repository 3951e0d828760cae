"""Table rows to changelog records and back, compiled: `topics.changelog` has the format.

`write_rows` writes the records section of a Kafka record batch from the table's memory; `read_rows` copies records back.
Rates: about 5 and 8 million rows of 120 bytes per second on one core. This file is independent of the rows' fields: each
kind and version is a number with a row size.
"""

from __future__ import annotations

from typing import Any

from topics.changelog import HEAD, ROW_KIND
from topics.columns.crc import crc32c
from topics.columns.jit import inline, kernel
from topics.columns.memory import byte_at, byte_swap, int64, load32, load64, store64

HEAD_SIZE = HEAD.size
OK, WRONG_CRC, WRONG_SIZE, NEWER = 0, 1, 2, 3
RECORD_ROOM = 48  # bytes of a record without its row, at most


@inline
def write_code(code: int, out: Any, at: int) -> int:
    """Write a varint of a non-negative value and return the position after it."""
    while code > 127:
        out[at] = (code & 0x7F) | 0x80
        code >>= 7
        at += 1
    out[at] = code
    return at + 1


@inline
def write_varint(value: int, out: Any, at: int) -> int:
    """Write a zigzag varint of a non-negative value and return the position after it."""
    return write_code(value << 1, out, at)


@inline
def varint_size(value: int) -> int:
    """Return the bytes of a zigzag varint of a non-negative value."""
    size, left = 1, value << 1
    while left > 127:
        left >>= 7
        size += 1
    return size


@inline
def _store32(out: Any, at: int, value: int) -> None:
    for shift in range(4):
        out[at + shift] = (value >> (8 * shift)) & 0xFF


@inline
def write_value(row: Any, kind: int, version: int, epoch: int, out: Any, at: int) -> int:
    """Write head and row (uint8, a multiple of 8 bytes) at ``out[at:]`` and return the position after them."""
    size = row.shape[0]
    out[at], out[at + 1], out[at + 2], out[at + 3] = version & 0xFF, version >> 8, kind, 0
    _store32(out, at + 4, epoch)
    _store32(out, at + 8, 0)
    _store32(out, at + 12, size)
    for i in range(0, size, 8):
        store64(out, at + HEAD_SIZE + i, load64(row, i))
    end = at + HEAD_SIZE + size
    _store32(out, at + 8, int64(crc32c(out, at, end)))
    return end


@inline
def _write_key(kind: int, key: Any, out: Any, at: int) -> int:
    """Write a row's record key after its length and return the position after it."""
    if kind != ROW_KIND:
        out[at], out[at + 1] = 18, kind
        store64(out, at + 2, byte_swap(key))
        return at + 10
    out[at] = 16
    store64(out, at + 1, byte_swap(key))
    return at + 9


@kernel
def write_rows(rows: Any, slots: Any, head: Any, out: Any) -> int:
    """Write the records section of one batch with rows ``slots`` of ``rows`` and return its bytes.

    ``rows`` is uint8[n, size] with the key in the first 8 bytes; ``head`` is (kind, version, epoch). ``out`` must have
    RECORD_ROOM bytes per row in addition to the row.
    """
    kind, version, epoch = head
    value_size = HEAD_SIZE + rows.shape[1]
    key_size = 8 if kind == ROW_KIND else 9
    at = 0
    for i in range(slots.shape[0]):
        row = rows[slots[i]]
        delta_size = varint_size(i)
        at = write_varint(2 + delta_size + 1 + key_size + varint_size(value_size) + value_size + 1, out, at)
        out[at] = out[at + 1] = 0
        at = write_varint(i, out, at + 2)
        at = _write_key(kind, load64(row, 0), out, at)
        at = write_varint(value_size, out, at)
        at = write_value(row, kind, version, epoch, out, at)
        out[at] = 0
        at += 1
    return at


@kernel
def write_tombstones(keys: Any, kind: int, out: Any) -> int:
    """Write the records section of one batch that deletes the rows of ``keys`` (uint64) and return its bytes.

    ``out`` must have RECORD_ROOM bytes per key.
    """
    key_size = 8 if kind == ROW_KIND else 9
    at = 0
    for i in range(keys.shape[0]):
        at = write_varint(2 + varint_size(i) + 1 + key_size + 1 + 1, out, at)
        out[at] = out[at + 1] = 0
        at = write_varint(i, out, at + 2)
        at = _write_key(kind, keys[i], out, at)
        out[at], out[at + 1] = 1, 0  # no value: its length is -1
        at += 2
    return at


@kernel
def write_whole(whole: Any, head: Any, out: Any) -> int:
    """Write the value of a record that a partition has one of and return its bytes.

    ``whole`` is its memory (uint8, a multiple of 8 bytes); ``head`` is (kind, version, epoch).
    """
    return write_value(whole, head[0], head[1], head[2], out, 0)


@inline
def _fault(source: Any, at: int, length: int, sizes: Any, scratch: Any) -> int:
    if length < HEAD_SIZE:
        return WRONG_SIZE
    version = byte_at(source, at) | (byte_at(source, at + 1) << 8)
    kind = byte_at(source, at + 2) | (byte_at(source, at + 3) << 8)
    if version >= sizes.shape[0]:
        return NEWER
    size = load32(source, at + 12)
    if kind >= sizes.shape[1] or size != sizes[version, kind] or length != HEAD_SIZE + size:
        return WRONG_SIZE
    for i in range(length):
        scratch[i] = byte_at(source, at + i)
    _store32(scratch, 8, 0)
    return OK if int64(crc32c(scratch, 0, length)) == load32(source, at + 8) else WRONG_CRC


@kernel
def check_rows(buffer: Any, arena: Any, records: Any, sizes: Any, scratch: Any) -> Any:
    """Check the values of ``records`` (RecordColumns of one fetch, without tombstones) and read keys, kinds and versions.

    ``sizes`` is int64[versions, kinds], the bytes of each row, -1 for rows that can't be read. ``scratch`` is (uint8[], keys
    uint64[], kinds uint8[], versions uint8[]). Return (records read, fault of the next one or OK).
    """
    copy, keys, kinds, versions = scratch
    count = keys.shape[0]
    for i in range(count):
        source = arena if records.unpacked[i] else buffer
        at, length = records.start[i], records.length[i]
        fault = _fault(source, at, length, sizes, copy)
        if fault != OK:
            return i, fault
        versions[i], kinds[i] = byte_at(source, at), byte_at(source, at + 2)
        keys[i] = load64(source, at + HEAD_SIZE)
    return count, OK


@kernel
def read_rows(buffer: Any, arena: Any, records: Any, slots: Any, rows: Any) -> None:
    """Copy the rows of ``records`` to ``rows[slots[i]]`` (uint8[n, size]); skip records with a negative slot."""
    size = rows.shape[1]
    for i in range(slots.shape[0]):
        if slots[i] < 0:
            continue
        source = arena if records.unpacked[i] else buffer
        row = rows[slots[i]]
        for at in range(0, size, 8):
            store64(row, at, load64(source, records.start[i] + HEAD_SIZE + at))
