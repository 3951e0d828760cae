"""The table as octets on disk: what an edge starts with when Kafka is away.

Magic, a JSON header with its length and CRC-32, then chunks of columns, each with length and CRC-32, lz4. The header names the
format's version, the positions from which to read on, and when Kafka was last heard: decisions too old are not trusted. Any
doubt (another version or byte order, a wrong sum, more rows than the table takes) makes the whole file `BadSnapshot`.

A snapshot is taken piece by piece while decisions go on coming in; the positions are those of its beginning. So rows may be
newer than the positions say, and what is read again changes nothing, because it isn't newer.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cramjam
import orjson

from engine.edge.table import TYPECODES, Columns, Table, empty_columns
from topics.networks import network_of, network_text
from topics.overrides import CLIENT, HELO

MAGIC, VERSION = b"TGEDGE\r\n", 2
PART = struct.Struct("<II")
CHUNK_ROWS = 4096
ROW_OCTETS = 96
MOST_HEADER = 64 << 20


class BadSnapshot(ValueError):
    """A file that can't be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """``positions``: by "topic partition", the next offset to read; ``heard_ms``: when Kafka last answered, Unix time;
    ``sources``, ``exemptions``: as the table has them, networks as text, names' suffixes among them."""

    version: int
    byteorder: str
    heard_ms: int
    rows: int
    positions: dict[str, int]
    sources: list[tuple[str, int]]
    exemptions: dict[str, int]


def header_of(table: Table, positions: dict[str, int], heard_ms: int, rows: int) -> Header:
    """The header for ``rows`` rows of a table, once they have been taken."""
    exemptions = {network_text(network): until_ms for network, until_ms in table.exemptions.items()}
    return Header(VERSION, sys.byteorder, heard_ms, rows, positions, table.sources, exemptions | table.names)


def slices(columns: Columns, rows: int) -> Iterator[bytes]:
    """The first ``rows`` rows in chunks, each as it is when its turn comes."""
    for at in range(0, rows, CHUNK_ROWS):
        yield b"".join(column[at : min(at + CHUNK_ROWS, rows)].tobytes() for column in columns)


def pack_chunk(raw: bytes) -> bytes:
    """A chunk as it stands in the file."""
    packed = bytes(cramjam.lz4.compress_block(raw))
    return PART.pack(len(packed), zlib.crc32(packed)) + packed


def pack_header(header: Header) -> bytes:
    """The beginning of the file."""
    body = orjson.dumps(header)
    return MAGIC + PART.pack(len(body), zlib.crc32(body)) + body


def read_snapshot(octets: bytes, capacity: int) -> tuple[Header, Columns]:
    """Header and rows of a file. `BadSnapshot` if anything about it is in doubt."""
    if not octets.startswith(MAGIC):
        raise BadSnapshot("no snapshot of an edge")
    body, at = _part(octets, len(MAGIC), MOST_HEADER)
    header = _header(body)
    if header.rows > capacity:
        raise BadSnapshot(f"{header.rows} rows, edge.max_decisions takes {capacity}")
    columns = empty_columns()
    while len(columns.until_ms) < header.rows:
        packed, at = _part(octets, at, CHUNK_ROWS * ROW_OCTETS * 2)
        _extend(columns, packed)
    if at != len(octets) or any(source >= len(header.sources) for source in columns.source):
        raise BadSnapshot("more than its header says")
    return header, columns


def restore(table: Table, header: Header, columns: Columns) -> None:
    """Fill an empty table."""
    table.restore(columns, header.sources)
    for text, until_ms in header.exemptions.items():
        if text.startswith((CLIENT, HELO)):
            table.exempt_name(text, until_ms)
        else:
            table.exempt(network_of(text), until_ms)


def _part(octets: bytes, at: int, most: int) -> tuple[bytes, int]:
    if len(octets) < at + PART.size:
        raise BadSnapshot("cut off")
    length, crc = PART.unpack_from(octets, at)
    start, end = at + PART.size, at + PART.size + length
    if length > most or end > len(octets) or zlib.crc32(octets[start:end]) != crc:
        raise BadSnapshot("cut off or damaged")
    return octets[start:end], end


def _header(body: bytes) -> Header:
    try:
        fields = orjson.loads(body)
        if (fields["version"], fields["byteorder"]) != (VERSION, sys.byteorder):
            raise BadSnapshot(f"version {fields['version']}, {fields['byteorder']} endian")
        sources = [(str(topic), int(partition)) for topic, partition in fields.pop("sources")]
        return Header(**fields, sources=sources)
    except (TypeError, KeyError, ValueError) as error:
        raise BadSnapshot(f"header: {error}") from error


def _extend(columns: Sequence[object], packed: bytes) -> None:
    if int.from_bytes(packed[:4], "little") > CHUNK_ROWS * ROW_OCTETS:
        raise BadSnapshot("chunk of a wrong size")
    try:
        raw = bytes(cramjam.lz4.decompress_block(packed))
    except cramjam.DecompressionError as error:
        raise BadSnapshot(f"chunk: {error}") from error
    row_octets = sum(struct.calcsize(f"={code}") for code in TYPECODES)
    rows, rest = divmod(len(raw), row_octets)
    if rest or not 1 <= rows <= CHUNK_ROWS:
        raise BadSnapshot("chunk of a wrong size")
    at = 0
    for column, code in zip(columns, TYPECODES, strict=True):
        size = rows * struct.calcsize(f"={code}")
        column.frombytes(raw[at : at + size])  # type: ignore[attr-defined]
        at += size
