"""Write events in their wire forms, compiled: JSON lines from columns, and record batches from JSON lines.

Simulators and benchmarks make their input with `write_lines`. `write_records` turns scanned lines into the records section
of a batch (key: the record key, value: the unchanged line, timestamp: the event's). Rates: about 4 and 6 million events per
second on one core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from topics.columns.jit import inline, kernel
from topics.columns.keys import IPV4_TAG, write_ipv4, write_ipv6, write_key
from topics.columns.memory import byte_at, int64
from topics.columns.rows import varint_size, write_code, write_varint
from topics.columns.scan import DEFERRED, REJECTED

LINE_ROOM = 160  # bytes of a line without its mta and tail texts, at most
RECORD_OVERHEAD = 64  # bytes of a record without its value, at most


class Drafts(NamedTuple):
    """Events to be written, one array per field."""

    ts_ms: npt.NDArray[np.int64]
    high: npt.NDArray[np.uint64]  # the key: upper half of an IPv6 address, or tagged IPv4
    low: npt.NDArray[np.uint64]  # lower half of an IPv6 address
    messages: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.uint8]
    mta: npt.NDArray[np.uint8]  # index into the names of `Texts`


class Texts(NamedTuple):
    """Constant texts of events."""

    names: npt.NDArray[np.uint8]  # the quoted mta names, concatenated
    ends: npt.NDArray[np.int64]  # name i ends at ends[i]
    tail: npt.NDArray[np.uint8]  # JSON before each closing brace, such as ``,"helo":"mail.example.org"``; may be empty


def texts(names: list[str], tail: str = "") -> Texts:
    """Return the texts of plain ASCII mta names and a tail."""
    quoted = [f'"{name}"'.encode("ascii") for name in names]
    ends = np.cumsum([len(name) for name in quoted], dtype=np.int64)
    return Texts(_byte_array(b"".join(quoted)), ends, _byte_array(tail.encode("ascii")))


def _byte_array(text: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


_TS, _IP, _MTA = (_byte_array(text) for text in (b'{"ts":', b',"ip":"', b'","mta":'))
_MESSAGES, _DEFERRED, _REJECTED = (
    _byte_array(text) for text in (b',"messages":', b',"outcome":"deferred"', b',"outcome":"rejected"')
)


@inline
def _put(text: Any, out: Any, at: int) -> int:
    for i in range(text.shape[0]):
        out[at + i] = text[i]
    return at + text.shape[0]


@inline
def _put_integer(value: int, out: Any, at: int) -> int:
    digits, left = 1, value
    while left >= 10:
        left //= 10
        digits += 1
    for i in range(digits):
        out[at + digits - 1 - i] = 48 + value % 10
        value //= 10
    return at + digits


@kernel
def write_lines(drafts: Drafts, first: int, chosen: Texts, out: npt.NDArray[np.uint8]) -> Any:
    """Write events from number ``first`` on as JSON lines and return (next event, bytes written).

    Stops when another line might not fit, which is when ``out`` has less space than LINE_ROOM and the texts' lengths.
    """
    at, i = 0, first
    room = LINE_ROOM + chosen.names.shape[0] + chosen.tail.shape[0]
    while i < drafts.ts_ms.shape[0] and at + room <= out.shape[0]:
        at = _put_integer(drafts.ts_ms[i], out, _put(_TS, out, at))
        at = _put(_IP, out, at)
        if drafts.high[i] >= IPV4_TAG:
            at = write_ipv4(int64(drafts.high[i] & np.uint64(0xFFFFFFFF)), out, at)
        else:
            at = write_ipv6(drafts.high[i], drafts.low[i], out, at)
        at = _put(_MTA, out, at)
        name = drafts.mta[i]
        for k in range(chosen.ends[name - 1] if name else 0, chosen.ends[name]):
            out[at] = chosen.names[k]
            at += 1
        if drafts.messages[i] != 1:
            at = _put_integer(int64(drafts.messages[i]), out, _put(_MESSAGES, out, at))
        if drafts.outcome[i] == DEFERRED:
            at = _put(_DEFERRED, out, at)
        elif drafts.outcome[i] == REJECTED:
            at = _put(_REJECTED, out, at)
        at = _put(chosen.tail, out, at)
        out[at], out[at + 1] = 125, 10
        at += 2
        i += 1
    return i, at


@inline
def _zigzag(value: int) -> int:
    """Return the zigzag code of a value that may be negative."""
    return (value << 1) ^ (value >> 63)


@kernel
def write_records(text: Any, columns: Any, chosen: Any, scratch: Any, out: Any) -> Any:
    """Write records of the scanned lines ``chosen`` (indexes into ``columns``; values in ``text``) as one batch's section.

    Timestamps are deltas to the first one's. Stops when another record might not fit; returns (records, bytes).
    """
    at, n = 0, 0
    base_ms = columns.ts_ms[chosen[0]] if chosen.shape[0] else 0
    for i in chosen:
        length = int64(columns.length[i])
        if at + length + RECORD_OVERHEAD > out.shape[0]:
            break
        key_length = write_key(columns.key[i], scratch, 0)
        code = _zigzag(columns.ts_ms[i] - base_ms)
        size = 1 + varint_size(code >> 1) + varint_size(n) + 1 + key_length + varint_size(length) + length + 1
        at = write_varint(size, out, at)
        out[at] = 0
        at = write_varint(n, out, write_code(code, out, at + 1))
        at = write_varint(key_length, out, at)
        for k in range(key_length):
            out[at + k] = scratch[k]
        at = write_varint(length, out, at + key_length)
        start = columns.start[i]
        for k in range(length):
            out[at + k] = byte_at(text, start + k)
        at += length
        out[at] = 0
        at += 1
        n += 1
    return n, at
