"""Rejected: LZ4 frames taken apart here, their blocks unpacked one by one: `python -m benchmarks.rejected.lz4_reader`.

Reads frames of independent blocks without checksums, whatever their blocks' size, which is what Kafka's clients write, and
hands everything else to cramjam's reader of frames. Prints the rate of both on a batch of state rows.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

import cramjam
import numpy as np

from topics.columns.batchwrite import CODECS

HEAD_OCTETS: Final = 7
_SIZE: Final = struct.Struct("<I")
_PLAIN: Final = 1 << 31  # flag of a block that is not compressed
_MAGIC: Final = b"\x04\x22\x4d\x18"
_BLOCK_OCTETS: Final = {  # of the largest block, by frame head: independent blocks, no checksums, no size; its checksum last
    _MAGIC + b"\x60\x40\x82": 64 << 10,
    _MAGIC + b"\x60\x50\xfb": 256 << 10,
    _MAGIC + b"\x60\x60\x51": 1 << 20,
    _MAGIC + b"\x60\x70\x73": 4 << 20,
}


def decompress_into(packed: memoryview, room: memoryview) -> int:
    """Octets written to ``room``; `cramjam.DecompressionError` when they don't fit or the frame is damaged."""
    most = _BLOCK_OCTETS.get(bytes(packed[:HEAD_OCTETS]))
    if most is None:
        return int(cramjam.lz4.decompress_into(packed, room))
    at, used = HEAD_OCTETS, 0
    while at + _SIZE.size <= len(packed):
        (size,) = _SIZE.unpack_from(packed, at)
        at += _SIZE.size
        if size == 0:
            return used
        plain, size = size & _PLAIN, size & ~_PLAIN
        block, left = packed[at : at + size], room[used : used + most]
        if len(block) < size or (plain and len(left) < size):
            break
        if plain:
            left[:size] = block
            used += size
        else:
            used += int(cramjam.lz4.decompress_block_into(block, left, output_len=len(left)))
        at += size
    raise cramjam.DecompressionError("a cut LZ4 frame, or no room for it")


def rate(read: Callable[[memoryview, memoryview], int], packed: bytes, room: memoryview) -> float:
    """Unpacked octets a processor second."""
    began_s, octets = time.process_time(), 0
    while time.process_time() < began_s + 1.0:
        octets += read(memoryview(packed), room)
    return octets / (time.process_time() - began_s)


def main() -> None:
    """Measure both by turns."""
    rows = np.zeros((4096, 144), np.uint8)
    rows[:, :60] = np.random.default_rng(1).integers(0, 256, (4096, 60))
    packed, room = CODECS["lz4"][1](rows.tobytes()), memoryview(bytearray(1 << 20))
    for _ in range(3):
        ours, theirs = rate(decompress_into, packed, room), rate(cramjam.lz4.decompress_into, packed, room)
        assert bytes(room[: rows.nbytes]) == rows.tobytes()
        print(f"{theirs / 1e9:.1f} GB/s by cramjam's reader, {ours / 1e9:.1f} GB/s by this one")


if __name__ == "__main__":
    main()
