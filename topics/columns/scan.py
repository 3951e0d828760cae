"""Scan JSON connection events into columns, compiled. Also the time of an event.

The scanner reads the canonical flat object: strings without escapes, plain integers, true/false/null, any white space. For
everything else it returns SLOW: escapes, non-ASCII text, nesting, floats, duplicate contract fields, and every value that the
contract refuses. `topics.events.parse_event` then decides, so both paths have one result; a property test compares them.

Measured share of SLOW: 0 on the evaluation traces and on the output of `tidegate import`. Elsewhere it is the share of
records with escaped or non-ASCII text. The scanner never reads outside ``text[start:end]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from topics.columns.jit import inline, kernel
from topics.columns.keys import parse_key
from topics.columns.memory import HIGHS, ONES, byte_at, int64, load32, load64, trailing_zeros

READY, SLOW, POISON = 0, 1, 2
ACCEPTED, DEFERRED, REJECTED = 0, 1, 2
LAST_TS_MS = 253_402_300_799_999
MAX_MESSAGES = 1_000_000

_TS, _IP, _MESSAGES, _RECIPIENTS, _OUTCOME = 1, 2, 4, 8, 16


class EventColumns(NamedTuple):
    """The events of a block, one array per field, all of the same length."""

    offset: npt.NDArray[np.int64]
    record_ms: npt.NDArray[np.int64]  # timestamp of the Kafka record, -1 for none
    ts_ms: npt.NDArray[np.int64]  # timestamp in the event
    key: npt.NDArray[np.uint64]
    messages: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.uint8]  # ACCEPTED, DEFERRED or REJECTED
    status: npt.NDArray[np.uint8]  # READY, SLOW or POISON
    unpacked: npt.NDArray[np.uint8]  # the buffer that has the value; 0: as fetched, 1: decompressed
    start: npt.NDArray[np.int32]  # of the value
    length: npt.NDArray[np.int32]  # of the value, -1 for null


def empty_columns(capacity: int) -> EventColumns:
    """Return columns for ``capacity`` events."""
    kinds = (np.int64, np.int64, np.int64, np.uint64, np.int32, np.uint8, np.uint8, np.uint8, np.int32, np.int32)
    return EventColumns._make(np.zeros(capacity, kind) for kind in kinds)


@inline
def _skip_space(text: Any, i: int, end: int) -> int:
    while i < end:
        byte = byte_at(text, i)
        if byte > 32 or not (byte == 32 or byte == 10 or byte == 13 or byte == 9):
            break
        i += 1
    return i


@inline
def _string_end(text: Any, i: int, end: int) -> int:
    """Return the position of the closing quote of a plain string whose text starts at ``i``; -1 if it isn't plain.

    Reads 8 bytes at a time: the lowest flag of (byte == '"', byte == '\\', byte < 0x20, byte >= 0x80) is exact.
    """
    while i + 8 <= end:
        word = load64(text, i)
        quote = word ^ np.uint64(0x22 * ONES)
        escape = word ^ np.uint64(0x5C * ONES)
        flags = (quote - np.uint64(ONES)) & ~quote
        flags |= (escape - np.uint64(ONES)) & ~escape
        flags |= (word - np.uint64(0x20 * ONES)) & ~word
        flags = (flags | word) & np.uint64(HIGHS)
        if flags:
            i += trailing_zeros(flags) >> 3
            return i if byte_at(text, i) == 34 else -1
        i += 8
    while i < end:
        byte = byte_at(text, i)
        if byte == 34:
            return i
        if byte == 92 or byte < 32 or byte > 127:
            return -1
        i += 1
    return -1


@inline
def _integer(text: Any, i: int, end: int) -> Any:
    """Return (end position or -1, value) of a non-negative integer of at most 18 digits without a leading zero."""
    first, value = i, int64(0)
    byte = int64(0)
    while i < end:
        byte = byte_at(text, i)
        if byte < 48 or byte > 57 or i - first > 18:
            break
        value = value * 10 + (byte - 48)
        i += 1
    length = i - first
    if length == 0 or length > 18 or (length > 1 and byte_at(text, first) == 48):
        return -1, value
    if i < end and (byte == 46 or byte == 101 or byte == 69):
        return -1, value
    return i, value


@inline
def _literal_end(text: Any, i: int, end: int) -> int:
    """Return the end of ``true``, ``false`` or ``null`` at ``i``; -1 for other text."""
    if end - i < 5:
        return -1
    word = load32(text, i)
    if word in (_TRUE, _NULL):
        return i + 4
    return i + 5 if word == _FALS and byte_at(text, i + 4) == 101 else -1


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


_TRUE, _NULL, _FALS = (int.from_bytes(word, "little") for word in (b"true", b"null", b"fals"))
_MESSAGES_NAME, _OUTCOME_NAME, _RECIPIENTS_NAME = _word(b"messages"), _word(b'outcome"'), _word(b"recipien")
_ACCEPTED_VALUE, _DEFERRED_VALUE, _REJECTED_VALUE = _word(b"accepted"), _word(b"deferred"), _word(b"rejected")


@inline
def _field(text: Any, start: int, end: int) -> int:
    """Return the contract field whose name is ``text[start:end]``, its closing quote at ``end``; 0 for other names."""
    length = end - start
    if length == 2:
        second = byte_at(text, start + 1)
        if byte_at(text, start) == 116 and second == 115:
            return _TS
        if byte_at(text, start) == 105 and second == 112:
            return _IP
    elif length == 8:
        if load64(text, start) == _MESSAGES_NAME:
            return _MESSAGES
    elif length == 10:
        if (
            load64(text, start) == _RECIPIENTS_NAME
            and byte_at(text, start + 8) == 116
            and byte_at(text, start + 9) == 115
        ):
            return _RECIPIENTS
    elif length == 7 and load64(text, start) == _OUTCOME_NAME:
        return _OUTCOME
    return 0


@inline
def _outcome(text: Any, start: int, end: int) -> int:
    if end - start != 8:
        return -1
    word = load64(text, start)
    if word == _ACCEPTED_VALUE:
        return ACCEPTED
    if word == _REJECTED_VALUE:
        return REJECTED
    return DEFERRED if word == _DEFERRED_VALUE else -1


@inline
def _store_integer(field: int, value: int, columns: Any, at: int) -> bool:
    """Store a contract field's integer; return False if the contract refuses it."""
    if field == _TS and value <= LAST_TS_MS:
        columns.ts_ms[at] = value
        return True
    if field == _MESSAGES and value <= MAX_MESSAGES:
        columns.messages[at] = value
        return True
    return bool(field == _RECIPIENTS and value <= MAX_MESSAGES)


@inline
def _store_text(text: Any, field: int, span: Any, columns: Any, at: int) -> bool:
    """Store a contract field's text, ``text[span[0]:span[1]]``; return False if the contract may refuse it."""
    if field == _IP:
        understood, key = parse_key(text, span[0], span[1])
        columns.key[at] = key
        return bool(understood)
    if field == _OUTCOME:
        outcome = _outcome(text, span[0], span[1])
        columns.outcome[at] = max(outcome, 0)
        return outcome >= 0
    return False


@inline
def _value(text: Any, i: int, end: int, field: int, target: Any) -> int:
    """Read the value at ``i``, store it if it is a contract field's, and return the position after it; -1 for SLOW.

    ``target`` is (columns, event number).
    """
    first = byte_at(text, i)
    if first == 34:
        end = _string_end(text, i + 1, end)
        if end < 0 or (field and not _store_text(text, field, (i + 1, end), target[0], target[1])):
            return -1
        return end + 1
    if 48 <= first <= 57:
        end, value = _integer(text, i, end)
        if end < 0 or (field and not _store_integer(field, value, target[0], target[1])):
            return -1
        return end
    return -1 if field else _literal_end(text, i, end)


@inline
def scan_event(text: Any, start: int, end: int, columns: Any, at: int) -> int:
    """Read the JSON object in ``text[start:end]`` (uint8) into ``columns[at]``.

    Return READY, or SLOW with unspecified columns.
    """
    columns.messages[at] = 1
    columns.outcome[at] = ACCEPTED
    seen = 0
    i = _skip_space(text, start, end)
    if i >= end or byte_at(text, i) != 123:
        return SLOW
    i = _skip_space(text, i + 1, end)
    while True:
        if i >= end or byte_at(text, i) != 34:
            return SLOW
        name_start = i + 1
        name_end = _string_end(text, name_start, end)
        if name_end < 0:
            return SLOW
        i = _skip_space(text, name_end + 1, end)
        if i >= end or byte_at(text, i) != 58:
            return SLOW
        i = _skip_space(text, i + 1, end)
        if i >= end:
            return SLOW
        field = _field(text, name_start, name_end)
        if seen & field:
            return SLOW
        seen |= field
        i = _value(text, i, end, field, (columns, at))
        if i < 0:
            return SLOW
        i = _skip_space(text, i, end)
        if i >= end:
            return SLOW
        if byte_at(text, i) == 125:
            break
        if byte_at(text, i) != 44:
            return SLOW
        i = _skip_space(text, i + 1, end)
    if _skip_space(text, i + 1, end) != end:
        return SLOW
    return READY if seen & (_TS | _IP) == (_TS | _IP) else SLOW


@inline
def event_time(columns: Any, i: int, window_ms: int) -> int:
    """Return an event's time in ms: its own timestamp, or its record's if the two differ by more than `window_ms`."""
    ts_ms, record_ms = columns.ts_ms[i], columns.record_ms[i]
    if record_ms >= 0 and abs(ts_ms - record_ms) > window_ms:
        return int64(record_ms)
    return int64(ts_ms)


@kernel
def _event_times(columns: Any, first: int, window_ms: int, out: Any) -> None:
    for i in range(out.shape[0]):
        out[i] = event_time(columns, first + i, window_ms)


def event_times(columns: EventColumns, first: int, last: int, window_ms: int) -> npt.NDArray[np.int64]:
    """Return the times in ms of events ``first`` to ``last`` as `event_time` has them."""
    out = np.empty(last - first, np.int64)
    _event_times(columns, first, window_ms, out)
    return out


@kernel
def scan_lines(text: Any, columns: Any) -> Any:
    """Scan newline-separated events of ``text`` (uint8) until ``columns`` is full, and return (events, bytes used).

    Uses whole lines only, skips blank lines, and leaves ``record_ms`` unchanged.
    """
    n, at, size = 0, 0, text.shape[0]
    used = 0
    capacity = columns.offset.shape[0]
    while at < size and n < capacity:
        end = at
        while end < size and byte_at(text, end) != 10:
            end += 1
        if end == size:
            break
        if _skip_space(text, at, end) < end:
            columns.start[n] = at
            columns.length[n] = end - at
            columns.unpacked[n] = 0
            columns.status[n] = scan_event(text, at, end, columns, n)
            n += 1
        at = end + 1
        used = at
    return n, used
