"""JSON from a topic as closed types: bounded integers, finite floats, printable texts of bounded length.

Each function raises ValueError for any other value, and no other exception. A text has no control characters, no line
separators and no characters that change the direction of writing, because it is shown in logs, terminals, pages and mails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
    return len(text) <= MAX_TEXT and _UNPRINTABLE.search(text) is None


def printable(text: str) -> str:
    """Return a text with visible escapes instead of control characters, cut to `MAX_TEXT` characters."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text[:MAX_TEXT])[:MAX_TEXT]


def text_of(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a printable text; `default` if the field is missing."""
    value = fields.get(name, default)
    if type(value) is not str or not is_printable(value):
        raise ValueError(f"{name} is no printable text")
    return value


def integer_of(fields: Mapping[str, Any], name: str, most: int = MAX_INTEGER, *, least: int = 0) -> int:
    """Return an integer from `least` to `most`."""
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is no integer from {least} to {most}")
    return value


def time_of(fields: Mapping[str, Any], name: str) -> int:
    """Return a time in ms since epoch, up to the year 9999."""
    return integer_of(fields, name, LAST_TS_MS)


def amount_of(fields: Mapping[str, Any], name: str, most: float) -> float:
    """Return a number from 0 to `most`; 0 if the field is missing."""
    value = fields.get(name, 0.0)
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError(f"{name} is no number from 0 to {most:g}")
    return float(value)


def object_of(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of closed types, nested at most `MAX_DEPTH` deep; empty if the field is missing."""
    value = fields.get(name, {})
    if type(value) is not dict or not _is_closed(value, MAX_DEPTH):
        raise ValueError(f"{name} is no object of printable texts and finite numbers")
    return value


def _is_closed(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        return is_printable(value)
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(-MAX_INTEGER <= value <= MAX_INTEGER)
    if kind is dict:
        return depth > 0 and all(is_printable(name) and _is_closed(item, depth - 1) for name, item in value.items())
    if kind is list:
        return depth > 0 and all(_is_closed(item, depth - 1) for item in value)
    return value is None or kind is bool
