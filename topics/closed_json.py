"""JSON from a topic as closed types: bounded integers, finite floats, printable texts of bounded length.

Each function raises ValueError for any other value, and no other exception. A text has no control characters, no line
separators and no characters that change the direction of writing, because it is shown in logs, terminals, pages and mails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import orjson

from topics.events import LAST_TS_MS

MAX_VALUE_BYTES = 65_536  # of a record's JSON
MAX_TEXT = 1_000  # characters
MAX_DEPTH = 4  # of nested objects and arrays
MAX_INTEGER = (1 << 63) - 1
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def parse_object(value: bytes) -> dict[str, Any]:
    """Return the JSON object of a record's value."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"{len(value)} bytes, at most {MAX_VALUE_BYTES} are read")
    fields = orjson.loads(value)
    if type(fields) is not dict:
        raise ValueError("no object")
    return fields


def is_printable(text: str) -> bool:
    """Return True if a text is at most `MAX_TEXT` characters long and none of them is a control character."""
    if len(text) > MAX_TEXT:
        return False
    return (text.isascii() and text.isprintable()) or _UNPRINTABLE.search(text) is None


def printable(text: str) -> str:
    """Return a text with visible escapes instead of control characters, cut to `MAX_TEXT` characters."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text[:MAX_TEXT])[:MAX_TEXT]


def closed_text(value: object, name: str) -> str:
    """Return a value that is a printable text."""
    if type(value) is not str or not is_printable(value):
        raise ValueError(f"{name} is no printable text")
    return value


def closed_integer(value: object, name: str, most: int = MAX_INTEGER, *, least: int = 0) -> int:
    """Return a value that is an integer from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is no integer from {least} to {most}")
    return value


def is_time(value: object) -> bool:
    """Return True for a time in ms since epoch, up to the year 9999."""
    return type(value) is int and 0 <= value <= LAST_TS_MS


def is_amount(value: object, most: float) -> bool:
    """Return True for a number from 0 to `most`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def text_of(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return the printable text of a field; `default` if the field is missing."""
    return closed_text(fields.get(name, default), name)


def integer_of(fields: Mapping[str, Any], name: str, *, least: int = 0) -> int:
    """Return the integer of a field, from `least` to `MAX_INTEGER`."""
    return closed_integer(fields.get(name), name, least=least)


def time_of(fields: Mapping[str, Any], name: str) -> int:
    """Return the time of a field in ms since epoch, up to the year 9999."""
    return closed_integer(fields.get(name), name, LAST_TS_MS)


def amount_of(fields: Mapping[str, Any], name: str, most: float) -> float:
    """Return the number of a field, from 0 to `most`; 0 if the field is missing."""
    value = fields.get(name, 0.0)
    if not is_amount(value, most):
        raise ValueError(f"{name} is no number from 0 to {most:g}")
    return float(value)


def object_of(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of closed types, nested at most `MAX_DEPTH` deep; empty if the field is missing."""
    value = fields.get(name, {})
    if type(value) is not dict or not _is_closed(value, MAX_DEPTH):
        raise ValueError(f"{name} is no object of printable texts and finite numbers")
    return value


def _is_closed(value: dict[str, Any] | list[Any], depth: int) -> bool:
    """Return True if all items are of closed types. Scalars are checked in the loop: a decision's evidence has about 25."""
    if isinstance(value, dict):
        if not all(map(is_printable, value)):
            return False
        items: Iterable[Any] = value.values()
    else:
        items = value
    for item in items:
        kind = type(item)
        if kind is float:
            closed = isfinite(item)
        elif kind is int:
            closed = -MAX_INTEGER <= item <= MAX_INTEGER
        elif kind is str:
            closed = is_printable(item)
        elif kind is dict or kind is list:
            closed = depth > 1 and _is_closed(item, depth - 1)
        else:
            closed = item is None or kind is bool
        if not closed:
            return False
    return True
