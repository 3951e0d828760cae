"""CRC-32C (Castagnoli), as Kafka's record batches and our changelog rows carry it: slicing by eight, compiled.

Polynomial 0x1EDC6F41 reflected (RFC 3720, appendix B.4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from topics.columns.jit import inline, kernel
from topics.columns.memory import int64, octets8


def _tables() -> npt.NDArray[np.uint32]:
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        tables[0, byte] = crc
    for k in range(1, 8):
        previous = tables[k - 1]
        tables[k] = (previous >> 8) ^ tables[0][previous & 0xFF]
    return tables


TABLES = _tables()


@inline
def crc32c(octets: Any, start: int, end: int) -> Any:
    """CRC-32C of ``octets[start:end]`` (uint8) as uint32."""
    crc = np.uint32(0xFFFFFFFF)
    i = start
    while i + 8 <= end:
        word = octets8(octets, i) ^ np.uint64(crc)
        crc = np.uint32(
            TABLES[7, word & np.uint64(0xFF)]
            ^ TABLES[6, (word >> np.uint64(8)) & np.uint64(0xFF)]
            ^ TABLES[5, (word >> np.uint64(16)) & np.uint64(0xFF)]
            ^ TABLES[4, (word >> np.uint64(24)) & np.uint64(0xFF)]
            ^ TABLES[3, (word >> np.uint64(32)) & np.uint64(0xFF)]
            ^ TABLES[2, (word >> np.uint64(40)) & np.uint64(0xFF)]
            ^ TABLES[1, (word >> np.uint64(48)) & np.uint64(0xFF)]
            ^ TABLES[0, word >> np.uint64(56)]
        )
        i += 8
    while i < end:
        crc = np.uint32(TABLES[0, (crc ^ np.uint32(octets[i])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8)))
        i += 1
    return np.uint32(crc ^ np.uint32(0xFFFFFFFF))


@kernel
def checksum(octets: Any) -> int:
    """CRC-32C of a whole uint8 array."""
    return int64(crc32c(octets, 0, octets.shape[0]))
