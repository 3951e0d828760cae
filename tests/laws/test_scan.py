"""The compiled scan agrees with orjson and the contract on every text, or leaves it to the slow path; it reads nothing else."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.oracles.jsonscan import Reading, reading
from tests.support.fences import PAGE, FencedPage
from tests.support.kernels import byte_array, scan_one
from tests.support.lines import ANY_LINE, canonical, damaged, objects
from topics.columns.scan import POISON, READY, SLOW, EventColumns, empty_columns, scan_lines
from topics.columns.slow import settle

FENCED = FencedPage()
EVENT = (
    b'{"ts":1700000000123,"ip":"2001:db8::7","mta":"mx1","messages":12,"recipients":20,"outcome":"rejected","tls":true}'
)
PATIENT = settings(
    max_examples=4 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


class Scanned(NamedTuple):
    """The result of the compiled scan."""

    status: int
    event: Reading | None


def event_at(columns: EventColumns, i: int) -> Reading:
    return Reading(int(columns.ts_ms[i]), int(columns.key[i]), int(columns.messages[i]), int(columns.outcome[i]))


def scan(text: npt.NDArray[np.uint8], start: int, end: int) -> Scanned:
    columns = empty_columns(1)
    status = scan_one(text, start, end, columns)
    return Scanned(status, event_at(columns, 0) if status == READY else None)


def scan_text(line: bytes) -> Scanned:
    return scan(byte_array(line), 0, len(line))


def settled(line: bytes) -> Reading | str:
    """Return the event in a record with this value, or its poison reason, by whichever path reads it."""
    columns = empty_columns(1)
    columns.status[0] = scan_one(byte_array(line), 0, len(line), columns)
    poison = settle(columns, 1, lambda i: line).poison
    if poison:
        assert columns.status[0] == POISON
        return poison[0].reason
    assert columns.status[0] == READY
    return event_at(columns, 0)


def check_agreement(line: bytes) -> None:
    """Assert that the scan and the slow path agree with the oracle."""
    scanned = scan_text(line)
    assert scanned.status in {READY, SLOW}
    if scanned.status == READY:
        assert scanned.event == reading(line)
    assert settled(line) == reading(line)


@PATIENT
@given(canonical())
@example(EVENT)
@example(b'{"ip":"192.0.2.7","ts":0}')
@example(b' \t\r\n{ "x" : null , "ts" : 253402300799999 , "ip" : "::ffff:c000:207" , "y":999999999999999999 }\n')
def test_canonical_event_is_read_by_the_fast_scan(line: bytes) -> None:
    scanned = scan_text(line)

    assert scanned.status == READY
    assert scanned.event == reading(line)


@PATIENT
@given(objects())
@example(b'{"ts":1,"ip":"::","ts":2}')
@example(b'{"ts":1,"ip":"::","a":"b","a":"c"}')
@example(b'{"ts":1,"ip":"::","messages":1000001}')
@example(b'{"ts":1,"ip":"::",}')
@example(b'{"ts":1,"ip":"::"}}')
@example(b'{"ts":1,"ip":"::"')
@example(b"")
def test_any_object_is_read_as_by_orjson(line: bytes) -> None:
    check_agreement(line)


@PATIENT
@given(damaged())
def test_damaged_line_is_read_as_by_orjson(line: bytes) -> None:
    check_agreement(line)


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_by_orjson(line: bytes) -> None:
    check_agreement(line)


def test_any_byte_in_a_string_is_read_as_by_orjson() -> None:
    for byte, size in product(range(256), range(10)):
        check_agreement(b'{"ts":1,"x":"' + b"a" * size + bytes([byte]) + b'bcd","ip":"192.0.2.7"}')


def test_repeated_contract_field_is_left_to_the_slow_path() -> None:
    for name in ("ts", "ip", "messages", "recipients", "outcome"):
        value = {"ip": b'"192.0.2.9"', "outcome": b'"accepted"'}.get(name, b"3")
        once = EVENT[:-1] + b"}"
        twice = EVENT[:-1] + b',"' + name.encode() + b'":' + value + b"}"
        assert (scan_text(once).status, scan_text(twice).status) == (READY, SLOW)
        check_agreement(twice)


SURROUNDINGS = st.sampled_from(
    [b"", b'"', b"}", b" ", b"0", b"9.5", b",", b":", b'":"', b"\\", b"\xff", b"ue", b'{"ts":5,']
)


@PATIENT
@given(ANY_LINE, SURROUNDINGS, SURROUNDINGS)
def test_result_does_not_depend_on_surrounding_text(line: bytes, before: bytes, after: bytes) -> None:
    within = byte_array(before + line + after)

    assert scan(within, len(before), len(before) + len(line)) == scan_text(line)


@PATIENT
@given(ANY_LINE)
def test_scan_reads_only_its_text(line: bytes) -> None:
    """A read before or after the text hits an inaccessible page, which ends the process."""
    line = line[:PAGE]
    expected = scan_text(line)

    assert scan(FENCED.at_end(line), 0, len(line)) == expected
    assert scan(FENCED.at_start(line), 0, len(line)) == expected


def test_truncated_event_is_not_read_beyond_its_end() -> None:
    for literal in (b"true", b"false", b"null"):
        event = EVENT.replace(b"true", literal)
        for end in range(len(event)):
            assert scan(FENCED.at_end(event[:end]), 0, end).status == SLOW
        assert scan(FENCED.at_end(event), 0, len(event)).status == READY


LINES = st.lists(st.one_of(canonical(), st.sampled_from([b"", b" \t\r", b"{}", b"x" * 40])), max_size=12)


@given(LINES, st.integers(1, 5), st.booleans())
def test_lines_equal_those_of_a_split(lines: list[bytes], capacity: int, open_end: bool) -> None:
    """Blank lines are skipped, a last line without its line break is left, room for few events only means more calls."""
    lines = [line.replace(b"\n", b" ") for line in lines]
    text = b"".join(line + b"\n" for line in lines) + (b'{"ts":1,' if open_end else b"")
    expected = [line for line in lines if line.strip(b" \t\r\n")]
    source, at, scanned = byte_array(text), 0, list[tuple[bytes, int]]()
    columns = empty_columns(capacity)

    while True:
        count, used = scan_lines(source[at:], columns)
        for i in range(count):
            start = at + int(columns.start[i])
            scanned.append((text[start : start + int(columns.length[i])], int(columns.status[i])))
        if not used:
            break
        at += used

    assert [line for line, _ in scanned] == expected
    assert [status for _, status in scanned] == [scan_text(line).status for line in expected]
    assert at == len(text) - (len(b'{"ts":1,') if open_end else 0)


def test_null_value_is_poison_and_reasons_are_in_order_of_events() -> None:
    columns = empty_columns(4)
    columns.status[:] = [POISON, SLOW, READY, SLOW]

    result = settle(columns, 4, lambda i: [b"", b"[]", b"", b'{"ts":7,"ip":"\\u003a:"}'][i])

    assert (result.slow, result.poison) == (2, [(0, "null value"), (1, "not an object")])
    assert columns.status.tolist() == [POISON, POISON, READY, READY]
    assert event_at(columns, 3) == (7, 0, 1, 0)
