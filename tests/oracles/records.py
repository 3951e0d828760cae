"""Kafka's record batches (format v2) read one octet after the other, written from the public format: the decoder's twin.

`read_batches` gives every complete batch of a fetch with its records as plain objects, control batches included and marked;
`records_of` what a consumer that asked for an offset is handed (without the aborted transactions' filter, which needs the
broker's list). Format: https://kafka.apache.org/documentation/#recordbatch. A megabyte takes about a second.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import cramjam

HEAD = struct.Struct(">qiibIhiqqqhii")
SIZE_FROM = 12  # the length counts what comes after itself: the batch from its leader epoch on
CRC_FROM = 21  # the checksum covers the batch from its attributes on
MAGIC = 2
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEAD_OCTETS = 16
CASTAGNOLI_REVERSED = 0x82F63B78
MOST_VARINT_BITS = 70


class Malformed(ValueError):
    """Octets that are no record batch of format v2."""


@dataclass(frozen=True)
class Record:
    """One record. ``timestamp_ms`` is the broker's append time where the topic says so; ``key`` and ``value`` may be null."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True)
class Batch:
    """One batch and its records. ``last_offset`` counts offsets that compaction took away; a ``control`` batch's records
    are transaction markers, never handed to a consumer."""

    base_offset: int
    last_offset: int
    codec: str
    transactional: bool
    control: bool
    append_time: bool
    producer_id: int
    producer_epoch: int
    records: tuple[Record, ...]


def _crc_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        remainder = octet
        for _ in range(8):
            remainder = (remainder >> 1) ^ (CASTAGNOLI_REVERSED if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


CRC_TABLE = _crc_table()


def crc32c(octets: bytes) -> int:
    """CRC-32C (Castagnoli): reflected, starts at and is inverted by all ones."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Reader:
    """A position in ``octets``; whatever is asked for beyond their end is Malformed."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` octets."""
        if not 0 <= count <= len(self.octets) - self.at:
            raise Malformed(f"{count} octets wanted, {len(self.octets) - self.at} left")
        self.at += count
        return self.octets[self.at - count : self.at]

    def varint(self) -> int:
        """A signed integer: seven bits an octet, lowest first, zigzag (0, -1, 1, -2, ...)."""
        value = 0
        for shift in range(0, MOST_VARINT_BITS, 7):
            octet = self.take(1)[0]
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                return value // 2 if value % 2 == 0 else -(value + 1) // 2
        raise Malformed("a varint without end")

    def field(self) -> bytes | None:
        """Octets with their length before them; length -1 is null."""
        length = self.varint()
        return None if length == -1 else self.take(length)

    def header(self) -> tuple[str, bytes | None]:
        """A record header: name and value."""
        return (self.field() or b"").decode(errors="replace"), self.field()


class Stamps(NamedTuple):
    """What a batch's head says about its records' times: the base, the greatest, and whether the broker set them."""

    base_ms: int
    most_ms: int
    append_time: bool

    def of(self, delta_ms: int) -> int:
        """The timestamp of a record, ms since the epoch."""
        return self.most_ms if self.append_time else self.base_ms + delta_ms


def _record(octets: bytes, base_offset: int, stamps: Stamps) -> Record:
    """One record: attributes, timestamp delta, offset delta, key, value, headers, and nothing behind."""
    reader = Reader(octets)
    reader.take(1)
    timestamp_ms = stamps.of(reader.varint())
    offset = base_offset + reader.varint()
    key, value = reader.field(), reader.field()
    headers = tuple(reader.header() for _ in range(reader.varint()))
    if reader.at != len(octets):
        raise Malformed(f"{len(octets) - reader.at} octets behind the record at offset {offset}")
    return Record(offset, timestamp_ms, key, value, headers)


def unpack_snappy(packed: bytes) -> bytes:
    """Raw snappy, or the Java library's chunks: 16 octets of head, then (length in four octets, raw snappy) repeated."""
    if not packed.startswith(XERIAL_MAGIC):
        return bytes(cramjam.snappy.decompress_raw(packed))
    reader = Reader(packed)
    reader.take(XERIAL_HEAD_OCTETS)
    chunks = []
    while reader.at < len(packed):
        size = int.from_bytes(reader.take(4), "big")
        chunks.append(bytes(cramjam.snappy.decompress_raw(reader.take(size))))
    return b"".join(chunks)


def unpack(codec: str, packed: bytes) -> bytes:
    """The records section as it was before compression."""
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


def read_batch(octets: bytes) -> Batch:
    """The one batch that ``octets`` are. Malformed when the magic, the checksum or a record is wrong."""
    if len(octets) < HEAD.size:
        raise Malformed("shorter than a batch's head")
    base_offset, _, _, magic, crc, attributes, last_delta, base_ms, most_ms, *producer = HEAD.unpack_from(octets)
    producer_id, producer_epoch, _, count = producer
    if magic != MAGIC:
        raise Malformed(f"magic {magic}")
    if crc != crc32c(octets[CRC_FROM:]):
        raise Malformed("wrong checksum")
    if attributes & 7 >= len(CODECS):
        raise Malformed(f"unknown codec {attributes & 7}")
    codec = CODECS[attributes & 7]
    stamps = Stamps(base_ms, most_ms, bool(attributes & APPEND_TIME))
    reader = Reader(unpack(codec, octets[HEAD.size :]))
    return Batch(
        base_offset=base_offset,
        last_offset=base_offset + last_delta,
        codec=codec,
        transactional=bool(attributes & TRANSACTIONAL),
        control=bool(attributes & CONTROL),
        append_time=stamps.append_time,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        records=tuple(_record(reader.field() or b"", base_offset, stamps) for _ in range(count)),
    )


def read_batches(octets: bytes) -> list[Batch]:
    """The complete batches of a fetch; one that is cut off at its end is left out, as a consumer leaves it."""
    batches, at = [], 0
    while at + HEAD.size <= len(octets):
        size = int.from_bytes(octets[at + 8 : at + SIZE_FROM], "big", signed=True)
        if size < HEAD.size - SIZE_FROM:
            raise Malformed(f"a batch of {size} octets")
        end = at + SIZE_FROM + size
        if end > len(octets):
            break
        batches.append(read_batch(octets[at:end]))
        at = end
    return batches


def records_of(octets: bytes, first_offset: int = 0) -> list[Record]:
    """The records from ``first_offset`` on, without control batches."""
    return [
        record
        for batch in read_batches(octets)
        if not batch.control
        for record in batch.records
        if record.offset >= first_offset
    ]
