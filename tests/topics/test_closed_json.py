"""Values of topics are bounded integers, finite numbers and printable texts; anything else is a ValueError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.closed_json import (
    MAX_TEXT,
    MAX_VALUE_BYTES,
    amount_of,
    integer_of,
    is_printable,
    object_of,
    parse_object,
    printable,
    text_of,
    time_of,
)

ODD: list[Any] = [None, True, -1, 1.5, 1 << 63, float("nan"), float("inf"), "1", [], {}]


@pytest.mark.parametrize("value", ODD)
def test_value_other_than_a_bounded_integer_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no integer"):
        integer_of({"offset": value}, "offset")


def test_time_after_the_year_9999_is_refused() -> None:
    with pytest.raises(ValueError, match="no integer"):
        time_of({"until": 253_402_300_800_000}, "until")


@pytest.mark.parametrize("value", [None, True, -1, 2e9, float("nan"), float("inf"), "1", [], {}])
def test_amount_outside_its_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no number"):
        amount_of({"burst": value}, "burst", 1e9)


@pytest.mark.parametrize("value", [None, 1, "a\r\n", "\x1b[2J", "\u202ea", "a" * (MAX_TEXT + 1)])
def test_text_that_is_long_or_not_printable_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no printable text"):
        text_of({"reason": value}, "reason")


@pytest.mark.parametrize("value", [[], {"a": float("inf")}, {"a": {"b": ["\n"]}}, {"\x00": 1}, {"a": [[[[1]]]]}])
def test_object_with_other_types_or_too_deep_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no object"):
        object_of({"evidence": value}, "evidence")


@pytest.mark.parametrize("value", [b"", b"[]", b"1", b"{", b"[" * 5_000, b'{"a":"' + b"x" * MAX_VALUE_BYTES + b'"}'])
def test_value_that_is_no_object_or_too_long_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_object(value)


@given(st.text() | st.text("\x00\x1b\n\u2028a", min_size=MAX_TEXT - 5, max_size=MAX_TEXT + 5))
def test_any_text_is_made_printable_once(text: str) -> None:
    made = printable(text)

    assert is_printable(made)
    assert printable(made) == made


def test_printable_is_decided_alike_for_every_character() -> None:
    refused = [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]

    assert [code for code in range(0x110000) if not is_printable(chr(code))] == refused
