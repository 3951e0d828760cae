"""Table rows to changelog records and back, compiled: `topics.changelog` has the format.

`write_rows` makes the records section of a Kafka record batch straight from the table's memory; `read_rows` puts records
back into it. About 5 and 8 million rows of 120 octets a second on one core.
"""

from __future__ import annotations

from typing import Any

from topics.changelog import HEAD, ROW_KIND, SITE_KIND
from topics.columns.crc import crc32c
from topics.columns.jit import inline, kernel
from topics.columns.memory import byte_swap, int64, octet, octets4, octets8, store8

HEAD_SIZE = HEAD.size
OK, WRONG_CRC, WRONG_SIZE, NEWER = 0, 1, 2, 3
RECORD_ROOM = 48  # octets of a record besides its row: at most


@inline
def write_varint(value: int, out: Any, at: int) -> int:
    """Write a zigzag varint of a non-negative value, give the position behind it."""
    left = value << 1
    while left > 127:
        out[at] = (left & 0x7F) | 0x80
        left >>= 7
        at += 1
    out[at] = left
    return at + 1


@inline
def varint_size(value: int) -> int:
    """Octets of a zigzag varint of a non-negative value."""
    size, left = 1, value << 7 >> 6
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
    """Write head and row (uint8, a multiple of 8 octets) at ``out[at:]``, give the position behind them."""
    size = row.shape[0]
    out[at], out[at + 1], out[at + 2], out[at + 3] = version & 0xFF, version >> 8, kind, 0
    _store32(out, at + 4, epoch)
    _store32(out, at + 8, 0)
    _store32(out, at + 12, size)
    for i in range(0, size, 8):
        store8(out, at + HEAD_SIZE + i, octets8(row, i))
    end = at + HEAD_SIZE + size
    _store32(out, at + 8, int64(crc32c(out, at, end)))
    return end


@kernel
def write_rows(rows: Any, numbers: Any, stamp: Any, out: Any) -> int:
    """The records section of one batch: rows ``numbers`` of ``rows`` (uint8[n, size], the key in the first 8 octets).

    ``stamp``: (version, epoch). ``out`` must have RECORD_ROOM octets more a row than its size. Gives the octets written.
    """
    version, epoch = stamp
    value_size = HEAD_SIZE + rows.shape[1]
    at = 0
    for i in range(numbers.shape[0]):
        row = rows[numbers[i]]
        delta_size = varint_size(i)
        at = write_varint(2 + delta_size + 1 + 8 + varint_size(value_size) + value_size + 1, out, at)
        out[at] = out[at + 1] = 0
        at = write_varint(i, out, at + 2)
        out[at] = 16
        store8(out, at + 1, byte_swap(octets8(row, 0)))
        at = write_varint(value_size, out, at + 9)
        at = write_value(row, ROW_KIND, version, epoch, out, at)
        out[at] = 0
        at += 1
    return at


@kernel
def write_site(site: Any, stamp: Any, out: Any) -> int:
    """The value of the site record; ``site``: its octets. Gives the octets written."""
    return write_value(site, SITE_KIND, stamp[0], stamp[1], out, 0)


@inline
def _fault(source: Any, at: int, length: int, size: int, version: int, scratch: Any) -> int:
    if length < HEAD_SIZE:
        return WRONG_SIZE
    if (octet(source, at) | (octet(source, at + 1) << 8)) > version:
        return NEWER
    if octets4(source, at + 12) != size or length != HEAD_SIZE + size:
        return WRONG_SIZE
    for i in range(length):
        scratch[i] = octet(source, at + i)
    _store32(scratch, 8, 0)
    return OK if int64(crc32c(scratch, 0, length)) == octets4(source, at + 8) else WRONG_CRC


@kernel
def check_rows(octets: Any, arena: Any, records: Any, expected: Any, scratch: Any) -> Any:
    """Check the values of ``records`` (RecordColumns of one fetch, tombstones left out) and read their keys.

    ``expected``: (record count, row size, site size, version). ``scratch``: (uint8[], keys uint64[], kinds uint8[]). Gives
    (records read, fault of the next one or OK)."""
    count, row_size, site_size, version = expected
    copy, keys, kinds = scratch
    for i in range(count):
        source = arena if records.unpacked[i] else octets
        at, length = records.start[i], records.length[i]
        kinds[i] = octet(source, at + 2) if length >= HEAD_SIZE else 0
        size = site_size if kinds[i] == SITE_KIND else row_size
        fault = _fault(source, at, length, size, version, copy)
        if fault != OK:
            return i, fault
        keys[i] = octets8(source, at + HEAD_SIZE)
    return count, OK


@kernel
def read_rows(octets: Any, arena: Any, records: Any, numbers: Any, rows: Any) -> None:
    """Copy the rows of ``records`` to ``rows[numbers[i]]`` (uint8[n, size]); a negative number passes a record over."""
    size = rows.shape[1]
    for i in range(numbers.shape[0]):
        if numbers[i] < 0:
            continue
        source = arena if records.unpacked[i] else octets
        row = rows[numbers[i]]
        for at in range(0, size, 8):
            store8(row, at, octets8(source, records.start[i] + HEAD_SIZE + at))
