"""Build record batches (format v2) from a records section that is already in its wire form.

`ColumnBatch` replaces aiokafka's BatchBuilder in `AIOKafkaProducer.send_batch`. A batch of thousands of rows then costs one
kernel call, one compression and one checksum, and no Python object per record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import cramjam
import numpy as np

from topics.columns.batches import GZIP, LZ4, SNAPPY, TRANSACTIONAL, ZSTD
from topics.columns.crc import checksum

_LZ4_HEAD: Final = bytes.fromhex(
    "04224d18606051"
)  # independent blocks of at most 1 MiB; only the header has a checksum
_LZ4_BLOCK: Final = 1 << 20
_LZ4_SIZE: Final = struct.Struct("<I")
_LZ4_PLAIN: Final = 1 << 31  # marks a block that is not compressed


def _lz4(content: bytes) -> bytes:
    """Return an LZ4 frame of independent blocks; Kafka refuses linked ones.

    Compresses block by block, because cramjam's stream compressor holds the GIL.
    """
    parts = [_LZ4_HEAD]
    for at in range(0, len(content), _LZ4_BLOCK):
        block = content[at : at + _LZ4_BLOCK]
        packed = bytes(cramjam.lz4.compress_block(block, store_size=False))
        if len(packed) < len(block):
            parts += [_LZ4_SIZE.pack(len(packed)), packed]
        else:
            parts += [_LZ4_SIZE.pack(len(block) | _LZ4_PLAIN), block]
    return b"".join([*parts, _LZ4_SIZE.pack(0)])


Compress = Callable[[bytes], bytes]
CODECS: Final[dict[str, tuple[int, Compress]]] = {
    "none": (0, bytes),
    "gzip": (GZIP, lambda content: bytes(cramjam.gzip.compress(content))),
    "snappy": (SNAPPY, lambda content: bytes(cramjam.snappy.compress_raw(content))),
    "lz4": (LZ4, _lz4),
    "zstd": (ZSTD, lambda content: bytes(cramjam.zstd.compress(content))),
}
_HEAD = struct.Struct(">hiqqqhii")  # attributes to record count, which the CRC covers with the records
_FRONT = struct.Struct(">qiibI")


def field(content: bytes) -> bytes:
    """Return the content after its length as a zigzag varint: the form of records, keys and values in a batch."""
    left, head = len(content) << 1, bytearray()
    while left > 127:
        head.append(left & 0x7F | 0x80)
        left >>= 7
    head.append(left)
    return bytes(head) + content


class ColumnBatch:
    """One record batch with the interface of aiokafka 0.14.0's batch builder, which a contract test compares.

    ``records`` is the records section, ``count`` the records in it. ``span_ms`` has the base of the timestamp deltas and the
    greatest timestamp. ``codec`` is one of `CODECS`.
    """

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
        """Do nothing: the batch is complete."""

    def closed(self) -> bool:
        """Return True: the batch is complete."""
        return True

    def size(self) -> int:
        """Return its bytes on the wire."""
        return _FRONT.size + _HEAD.size + len(self._records)

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count
