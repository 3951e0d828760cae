"""CRC-32C: the published check values, and both implementations equal the plain definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.records import crc32c as plain
from topics.columns import crc
from topics.columns.jit import kernel
from topics.columns.memory import int64


@kernel
def tables(buffer: Any, start: int, end: int) -> int:
    return int64(crc.by_tables(buffer, start, end))


@kernel
def instruction(buffer: Any, start: int, end: int) -> int:
    return int64(crc.by_instruction(buffer, start, end))


IMPLEMENTATIONS = [tables, instruction] if crc.HAS_INSTRUCTION else [tables]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_check_values_of_rfc_3720_are_met(implementation: Any, text: bytes, value: int) -> None:
    assert implementation(np.frombuffer(text, np.uint8), 0, len(text)) == value
    assert crc.checksum(np.frombuffer(text, np.uint8)) == value


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(text=st.binary(max_size=200), span=st.tuples(st.integers(0, 200), st.integers(0, 200)))
def test_checksum_of_any_part_equals_the_definition(implementation: Any, text: bytes, span: tuple[int, int]) -> None:
    start, end = sorted(min(limit, len(text)) for limit in span)
    assert implementation(np.frombuffer(text, np.uint8), start, end) == plain(text[start:end])
