"""The decision table as bytes on disk, from which an edge starts while Kafka is unreachable.

The file has a magic, a JSON header with its length and CRC-32, then lz4 chunks of columns, each with length and CRC-32. The
header has the format's version, the positions from which to read on, and the time at which the topics were last read to their
end. Any defect (another version or byte order, a wrong checksum, too many rows) makes the whole file a `BadSnapshot`.

A snapshot is taken chunk by chunk while decisions arrive; its positions are those of its beginning. Rows may therefore be newer
than the positions. Reading those records again changes nothing, because they aren't newer than the rows.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cramjam
import orjson

from engine.edge.table import TYPECODES, DecisionColumns, DecisionTable, empty_columns
from topics.closed_json import closed_integer, integer_of, time_of
from topics.networks import network_of
from topics.overrides import CLIENT, HELO

MAGIC, VERSION = b"TGEDGE\r\n", 2
PART = struct.Struct("<II")
CHUNK_ROWS = 4096
ROW_BYTES = 96  # upper bound of a row
MAX_HEADER = 64 << 20
CAUGHT_UP = "heard_ms"  # the header's key for `caught_up_ms`


class BadSnapshot(ValueError):
    """A file that isn't a valid snapshot; the message has the reason."""


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The first part of a snapshot."""

    version: int
    byteorder: str
    caught_up_ms: int  # Unix time at which the topics were last read to their end
    rows: int
    positions: dict[str, int]  # next offset to read, by "topic partition"
    sources: list[tuple[str, int]]  # as in the table
    exemptions: dict[str, int]  # end in ms, by network in CIDR or by name suffix


def build_header(table: DecisionTable, positions: dict[str, int], caught_up_ms: int, rows: int) -> SnapshotHeader:
    """Return the header for `rows` rows of a table. Call it after the rows were taken, so it names their sources."""
    exemptions = {str(network): until_ms for network, until_ms in table.exemptions.items()}
    exemptions |= table.exempt_names
    return SnapshotHeader(VERSION, sys.byteorder, caught_up_ms, rows, positions, table.sources, exemptions)


def iter_chunks(columns: DecisionColumns, rows: int) -> Iterator[bytes]:
    """Yield the first `rows` rows in chunks, each with the values it has when it is yielded."""
    for at in range(0, rows, CHUNK_ROWS):
        yield b"".join(column[at : min(at + CHUNK_ROWS, rows)].tobytes() for column in columns)


def pack_chunk(raw: bytes) -> bytes:
    """Return a chunk as it is in the file."""
    packed = bytes(cramjam.lz4.compress_block(raw))
    return PART.pack(len(packed), zlib.crc32(packed)) + packed


def pack_header(header: SnapshotHeader) -> bytes:
    """Return the beginning of the file."""
    fields = {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}
    fields[CAUGHT_UP] = fields.pop("caught_up_ms")
    body = orjson.dumps(fields)
    return MAGIC + PART.pack(len(body), zlib.crc32(body)) + body


def read_snapshot(content: bytes, capacity: int) -> tuple[SnapshotHeader, DecisionColumns]:
    """Return header and rows of a file. Raises `BadSnapshot` if it has a defect or more than `capacity` rows."""
    if not content.startswith(MAGIC):
        raise BadSnapshot("not a snapshot of an edge")
    body, at = _part(content, len(MAGIC), MAX_HEADER)
    header = _header(body)
    if header.rows > capacity:
        raise BadSnapshot(f"{header.rows} rows, edge.max_decisions is {capacity}")
    columns = empty_columns()
    while len(columns.until_ms) < header.rows:
        packed, at = _part(content, at, CHUNK_ROWS * ROW_BYTES * 2)
        _extend(columns, packed)
    if at != len(content) or any(source >= len(header.sources) for source in columns.source):
        raise BadSnapshot("content does not match the header")
    return header, columns


def restore_table(table: DecisionTable, header: SnapshotHeader, columns: DecisionColumns) -> None:
    """Fill an empty table."""
    table.restore(columns, header.sources)
    for text, until_ms in header.exemptions.items():
        if text.startswith((CLIENT, HELO)):
            table.exempt_name(text, until_ms)
        else:
            table.exempt(network_of(text), until_ms)


def _part(content: bytes, at: int, limit: int) -> tuple[bytes, int]:
    if len(content) < at + PART.size:
        raise BadSnapshot("truncated")
    length, crc = PART.unpack_from(content, at)
    start, end = at + PART.size, at + PART.size + length
    if length > limit or end > len(content) or zlib.crc32(content[start:end]) != crc:
        raise BadSnapshot("truncated or damaged")
    return content[start:end], end


def _header(body: bytes) -> SnapshotHeader:
    try:
        fields = orjson.loads(body)
        if (fields["version"], fields["byteorder"]) != (VERSION, sys.byteorder):
            raise BadSnapshot(f"version {fields['version']}, {fields['byteorder']} endian")
        header = SnapshotHeader(
            VERSION,
            sys.byteorder,
            time_of(fields, CAUGHT_UP),
            integer_of(fields, "rows"),
            _integers(fields["positions"]),
            [(str(topic), closed_integer(number, "partition")) for topic, number in fields["sources"]],
            _integers(fields["exemptions"]),
        )
        for name in header.positions:
            closed_integer(int(name.rpartition(" ")[2]), "partition")
        for text in header.exemptions:
            if not text.startswith((CLIENT, HELO)):
                network_of(text)
    except (TypeError, KeyError, ValueError) as error:
        raise BadSnapshot(f"header: {error}") from error
    return header


def _integers(given: object) -> dict[str, int]:
    """Return an object of integers from 0 on. Raise ValueError for anything else."""
    if not isinstance(given, dict):
        raise ValueError("no object")  # noqa: TRY004 (a peer's error)
    return {name: integer_of(given, name) for name in given}


def _extend(columns: Sequence[object], packed: bytes) -> None:
    if int.from_bytes(packed[:4], "little") > CHUNK_ROWS * ROW_BYTES:
        raise BadSnapshot("chunk of a wrong size")
    try:
        raw = bytes(cramjam.lz4.decompress_block(packed))
    except cramjam.DecompressionError as error:
        raise BadSnapshot(f"chunk: {error}") from error
    row_bytes = sum(struct.calcsize(f"={code}") for code in TYPECODES)
    rows, rest = divmod(len(raw), row_bytes)
    if rest or not 1 <= rows <= CHUNK_ROWS:
        raise BadSnapshot("chunk of a wrong size")
    at = 0
    for column, code in zip(columns, TYPECODES, strict=True):
        size = rows * struct.calcsize(f"={code}")
        column.frombytes(raw[at : at + size])  # type: ignore[attr-defined]
        at += size
