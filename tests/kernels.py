"""What is compiled into kernels, made callable one by one for the tests; cached as the kernels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from topics.columns.jit import kernel
from topics.columns.keys import murmur2, parse_key, write_ipv6, write_key
from topics.columns.scan import scan_event


def octets_of(text: bytes) -> npt.NDArray[np.uint8]:
    """The bytes as kernels get them: uint8, not to be written to."""
    return np.frombuffer(text, np.uint8)


@kernel
def scan_one(text: Any, start: int, end: int, columns: Any) -> int:
    """`scan_event` of ``text[start:end]`` into the first event."""
    return scan_event(text, start, end, columns, 0)


@kernel
def parse_one_key(text: Any, start: int, end: int) -> Any:
    """`parse_key`: (understood, key)."""
    return parse_key(text, start, end)


@kernel
def write_one_key(key: Any, out: Any) -> int:
    """`write_key` to the start of ``out``: octets written."""
    return write_key(key, out, 0)


@kernel
def write_one_ipv6(high: Any, low: Any, out: Any) -> int:
    """`write_ipv6` to the start of ``out``: octets written."""
    return write_ipv6(high, low, out, 0)


@kernel
def murmur2_of(text: Any) -> Any:
    """`murmur2` of a whole array."""
    return murmur2(text, text.shape[0])
