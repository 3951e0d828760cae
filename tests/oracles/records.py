"""Kafka's record batches (format v2) read byte by byte, written from the public format: the twin of the decoder.

`read_batches` returns every complete batch of a fetch with its records as plain objects, control batches included and marked.
`records_of` returns what a consumer gets that asked for an offset, without the filter of aborted transactions, which needs
the broker's list. Format: https://kafka.apache.org/documentation/#recordbatch. A megabyte takes about a second.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import cramjam

HEAD = struct.Struct(">qiibIhiqqqhii")
SIZE_FROM = 12  # the length counts the bytes after itself: the batch from its leader epoch on
CRC_FROM = 21  # the checksum covers the batch from its attributes on
MAGIC = 2
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEAD_BYTES = 16
CASTAGNOLI_REVERSED = 0x82F63B78
MOST_VARINT_BITS = 70


class Malformed(ValueError):
    """Bytes that are no record batch of format v2."""


@dataclass(frozen=True)
class Record:
    """One record."""

    offset: int
    timestamp_ms: int  # the broker's append time if the topic is configured so
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True)
class Batch:
    """One batch and its records."""

    base_offset: int
    last_offset: int  # counts offsets that compaction removed
    codec: str
    transactional: bool
    control: bool  # its records are transaction markers, which no consumer gets
    append_time: bool
    producer_id: int
    producer_epoch: int
    records: tuple[Record, ...]


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (CASTAGNOLI_REVERSED if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


CRC_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """Return the CRC-32C (Castagnoli): reflected, starts at and is inverted by all ones."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Reader:
    """A position in bytes. Reading beyond their end raises Malformed."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if not 0 <= count <= len(self.content) - self.at:
            raise Malformed(f"{count} bytes wanted, {len(self.content) - self.at} left")
        self.at += count
        return self.content[self.at - count : self.at]

    def varint(self) -> int:
        """Return a signed integer: seven bits a byte, lowest first, zigzag (0, -1, 1, -2, ...)."""
        value = 0
        for shift in range(0, MOST_VARINT_BITS, 7):
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value // 2 if value % 2 == 0 else -(value + 1) // 2
        raise Malformed("a varint that does not end")

    def field(self) -> bytes | None:
        """Return bytes with their length before them; length -1 is null."""
        length = self.varint()
        return None if length == -1 else self.read(length)

    def header(self) -> tuple[str, bytes | None]:
        """Return a record header: name and value."""
        return (self.field() or b"").decode(errors="replace"), self.field()


class Timestamps(NamedTuple):
    """The times in a batch's head."""

    base_ms: int
    most_ms: int
    append_time: bool  # the broker set them

    def of(self, delta_ms: int) -> int:
        """Return the timestamp of a record, ms since the epoch."""
        return self.most_ms if self.append_time else self.base_ms + delta_ms


def _record(content: bytes, base_offset: int, timestamps: Timestamps) -> Record:
    """Return one record: attributes, timestamp delta, offset delta, key, value, headers, and nothing after them."""
    reader = Reader(content)
    reader.read(1)
    timestamp_ms = timestamps.of(reader.varint())
    offset = base_offset + reader.varint()
    key, value = reader.field(), reader.field()
    headers = tuple(reader.header() for _ in range(reader.varint()))
    if reader.at != len(content):
        raise Malformed(f"{len(content) - reader.at} bytes after the record at offset {offset}")
    return Record(offset, timestamp_ms, key, value, headers)


def unpack_snappy(packed: bytes) -> bytes:
    """Unpack raw snappy, or the Java library's chunks: a head of 16 bytes, then (length in four bytes, raw snappy) repeated."""
    if not packed.startswith(XERIAL_MAGIC):
        return bytes(cramjam.snappy.decompress_raw(packed))
    reader = Reader(packed)
    reader.read(XERIAL_HEAD_BYTES)
    chunks = []
    while reader.at < len(packed):
        size = int.from_bytes(reader.read(4), "big")
        chunks.append(bytes(cramjam.snappy.decompress_raw(reader.read(size))))
    return b"".join(chunks)


def unpack(codec: str, packed: bytes) -> bytes:
    """Return the records section as it was before compression."""
    try:
        if codec == "gzip":
            return gzip.decompress(packed)
        if codec == "snappy":
            return unpack_snappy(packed)
        if codec == "lz4":
            return bytes(cramjam.lz4.decompress(packed))
        if codec == "zstd":
            return bytes(cramjam.zstd.decompress(packed))
    except (cramjam.DecompressionError, zlib.error, OSError, EOFError) as error:
        raise Malformed(f"not {codec}: {error}") from error
    return packed


def read_batch(content: bytes) -> Batch:
    """Return the one batch in `content`. Raise Malformed if the magic, the checksum or a record is wrong."""
    if len(content) < HEAD.size:
        raise Malformed("shorter than a batch's head")
    base_offset, _, _, magic, crc, attributes, last_delta, base_ms, most_ms, *producer = HEAD.unpack_from(content)
    producer_id, producer_epoch, _, count = producer
    if magic != MAGIC:
        raise Malformed(f"magic {magic}")
    if crc != crc32c(content[CRC_FROM:]):
        raise Malformed("wrong checksum")
    if attributes & 7 >= len(CODECS):
        raise Malformed(f"unknown codec {attributes & 7}")
    codec = CODECS[attributes & 7]
    timestamps = Timestamps(base_ms, most_ms, bool(attributes & APPEND_TIME))
    reader = Reader(unpack(codec, content[HEAD.size :]))
    return Batch(
        base_offset=base_offset,
        last_offset=base_offset + last_delta,
        codec=codec,
        transactional=bool(attributes & TRANSACTIONAL),
        control=bool(attributes & CONTROL),
        append_time=timestamps.append_time,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        records=tuple(_record(reader.field() or b"", base_offset, timestamps) for _ in range(count)),
    )


def read_batches(fetched: bytes) -> list[Batch]:
    """Return the complete batches of a fetch, without one that is cut off at its end, as a consumer does."""
    batches, at = [], 0
    while at + HEAD.size <= len(fetched):
        size = int.from_bytes(fetched[at + 8 : at + SIZE_FROM], "big", signed=True)
        if size < HEAD.size - SIZE_FROM:
            raise Malformed(f"a batch of {size} bytes")
        end = at + SIZE_FROM + size
        if end > len(fetched):
            break
        batches.append(read_batch(fetched[at:end]))
        at = end
    return batches


def records_of(fetched: bytes, first_offset: int = 0) -> list[Record]:
    """Return the records from `first_offset` on, without control batches."""
    return [
        record
        for batch in read_batches(fetched)
        if not batch.control
        for record in batch.records
        if record.offset >= first_offset
    ]
