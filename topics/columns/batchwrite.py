"""Record batches (format v2) from a records section that is already in its wire form.

`ColumnBatch` stands where aiokafka's BatchBuilder would (`AIOKafkaProducer.send_batch`), so that a batch of thousands of
rows costs one kernel call, one compression and one checksum, and no Python object a record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import cramjam
import numpy as np

from topics.columns.batches import GZIP, LZ4, SNAPPY, TRANSACTIONAL, ZSTD
from topics.columns.crc import checksum

_LZ4_HEAD: Final = bytes.fromhex("04224d18606051")  # independent blocks of a mebibyte at most, no checksums but its own
_LZ4_BLOCK: Final = 1 << 20
_LZ4_SIZE: Final = struct.Struct("<I")
_LZ4_PLAIN: Final = 1 << 31  # marks a block that is not compressed


def _lz4(octets: bytes) -> bytes:
    """An LZ4 frame of independent blocks, as Kafka refuses linked ones. Block by block: cramjam's compressor of streams keeps
    all other threads from running meanwhile."""
    parts = [_LZ4_HEAD]
    for at in range(0, len(octets), _LZ4_BLOCK):
        block = octets[at : at + _LZ4_BLOCK]
        packed = bytes(cramjam.lz4.compress_block(block, store_size=False))
        if len(packed) < len(block):
            parts += [_LZ4_SIZE.pack(len(packed)), packed]
        else:
            parts += [_LZ4_SIZE.pack(len(block) | _LZ4_PLAIN), block]
    return b"".join([*parts, _LZ4_SIZE.pack(0)])


Compress = Callable[[bytes], bytes]
CODECS: Final[dict[str, tuple[int, Compress]]] = {
    "none": (0, bytes),
    "gzip": (GZIP, lambda octets: bytes(cramjam.gzip.compress(octets))),
    "snappy": (SNAPPY, lambda octets: bytes(cramjam.snappy.compress_raw(octets))),
    "lz4": (LZ4, _lz4),
    "zstd": (ZSTD, lambda octets: bytes(cramjam.zstd.compress(octets))),
}
_HEAD = struct.Struct(">hiqqqhii")  # attributes to record count: what the CRC covers besides the records
_FRONT = struct.Struct(">qiibI")


def field(octets: bytes) -> bytes:
    """Octets behind their length as a zigzag varint, as records and their keys and values stand in a batch."""
    left, head = len(octets) << 1, bytearray()
    while left > 127:
        head.append(left & 0x7F | 0x80)
        left >>= 7
    head.append(left)
    return bytes(head) + octets


class ColumnBatch:
    """One record batch. ``records``: the records section; ``count``: records in it; ``base_ms``, ``most_ms``: what their
    timestamp deltas count from, and the greatest timestamp; ``codec``: see `CODECS`.

    Meets what aiokafka 0.14.0 asks of a batch builder; a contract test holds it to that."""

    def __init__(
        self, records: bytes, count: int, span_ms: tuple[int, int], *, codec: str = "lz4", transactional: bool = False
    ) -> None:
        code, compress = CODECS[codec]
        self._records: Final = compress(records)
        self._count: Final = count
        self._span_ms: Final = span_ms
        self._attributes: Final = code | (TRANSACTIONAL if transactional else 0)
        self._producer = (-1, -1, -1)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        head = _HEAD.pack(self._attributes, self._count - 1, *self._span_ms, *self._producer, self._count)
        body = head + self._records
        return _FRONT.pack(0, len(body) + 9, -1, 2, checksum(np.frombuffer(body, np.uint8))) + body

    def close(self) -> None:
        """Nothing can be added from the start."""

    def closed(self) -> bool:
        """Always: the batch is complete."""
        return True

    def size(self) -> int:
        """Octets on the wire."""
        return _FRONT.size + _HEAD.size + len(self._records)

    def record_count(self) -> int:
        """Records in the batch."""
        return self._count
