from __future__ import annotations

import random
from typing import NamedTuple

import cramjam
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fetches import Got, fetch, nullable, signed_varint
from tests.support.kernels import byte_array
from tests.support.lines import canonical
from topics.columns.batchwrite import CODECS, ColumnBatch, field
from topics.columns.keys import IPV4_TAG, SCRATCH
from topics.columns.rows import varint_size, write_varint
from topics.columns.scan import READY, EventColumns, empty_columns, scan_lines
from topics.columns.write import LINE_ROOM, RECORD_OVERHEAD, Drafts, texts, write_lines, write_records
from topics.events import LAST_TS_MS, MAX_MESSAGES, OUTCOMES, parse_event
from topics.keys import key_of, key_text

NAMES = ["mx1", "edge-22.example.org", ""]
TAIL = ',"helo":"mail.example.org"'
OUTCOME_NAMES = ("accepted", "deferred", "rejected")


class Draft(NamedTuple):
    ts_ms: int
    high: int
    low: int
    messages: int
    outcome: int
    mta: int


KEYS = st.integers(0, (0xFFFFFFFF << 32) - 1) | st.integers(0, 2**32 - 1).map(lambda ip: int(IPV4_TAG) | ip)
DRAFTS = st.lists(
    st.builds(
        Draft,
        st.integers(0, LAST_TS_MS),
        KEYS,
        st.integers(0, 2**64 - 1),
        st.integers(0, MAX_MESSAGES),
        st.integers(0, 2),
        st.integers(0, len(NAMES) - 1),
    ),
    max_size=8,
)


def drafts_of(drafts: list[Draft]) -> Drafts:
    columns = zip(*drafts, strict=True) if drafts else ((),) * 6
    kinds = (np.int64, np.uint64, np.uint64, np.int32, np.uint8, np.uint8)
    return Drafts._make(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))


def written(drafts: Drafts, room: int, tail: str) -> list[bytes]:
    chosen, first, lines = texts(NAMES, tail), 0, list[bytes]()
    while first < len(drafts.ts_ms):
        out = np.zeros(room, np.uint8)
        first, size = write_lines(drafts, first, chosen, out)
        assert size, "nothing fitted"
        lines += out[:size].tobytes().splitlines()
    return lines


@given(DRAFTS, st.sampled_from(["", TAIL]), st.sampled_from([LINE_ROOM + 80, 4096]))
def test_written_line_has_the_drafted_event(drafts: list[Draft], tail: str, room: int) -> None:
    lines = written(drafts_of(drafts), room, tail)
    assert len(lines) == len(drafts)
    for line, draft in zip(lines, drafts, strict=True):
        event = parse_event(line)
        mapped = draft.high == 0 and draft.low >> 32 == 0xFFFF
        assert key_of(event.ip) == (int(IPV4_TAG) | draft.low & 0xFFFFFFFF if mapped else draft.high)
        assert (event.ts, event.messages, event.mta) == (draft.ts_ms, draft.messages, NAMES[draft.mta])
        assert event.outcome == OUTCOME_NAMES[draft.outcome]
        assert line.endswith(f"{tail}}}".encode())
    assert set(OUTCOME_NAMES) == OUTCOMES


def scanned(lines: list[bytes]) -> tuple[npt.NDArray[np.uint8], EventColumns, bytes]:
    text = b"".join(line.replace(b"\n", b" ") + b"\n" for line in lines)
    columns = empty_columns(len(lines) + 1)
    count, _ = scan_lines(byte_array(text), columns)
    assert (count, columns.status[:count].tolist()) == (len(lines), [READY] * len(lines))
    return byte_array(text), columns, text


@given(st.lists(canonical(), min_size=1, max_size=6), st.data())
def test_written_records_have_values_keys_and_timestamps_of_their_lines(
    lines: list[bytes], data: st.DataObject
) -> None:
    buffer, columns, text = scanned(lines)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=1, unique=True)), np.int64)
    out = np.zeros(sum(columns.length[chosen]) + RECORD_OVERHEAD * len(chosen), np.uint8)
    count, size = write_records(buffer, columns, chosen, np.empty(SCRATCH, np.uint8), out)
    times_ms = columns.ts_ms[chosen]
    batch = ColumnBatch(out[:size].tobytes(), count, (int(times_ms[0]), int(times_ms.max())), codec="lz4")._build()
    assert fetch(batch).records == [
        Got(
            n,
            int(columns.ts_ms[i]),
            key_text(int(columns.key[i])).encode(),
            text[columns.start[i] : columns.start[i] + columns.length[i]],
        )
        for n, i in enumerate(chosen)
    ]


def test_records_that_do_not_fit_are_not_written() -> None:
    line = b'{"ts":1700000000000,"ip":"192.0.2.7"}'
    buffer, columns, _ = scanned([line] * 10)
    out = np.zeros(3 * (len(line) + RECORD_OVERHEAD), np.uint8)
    count, size = write_records(buffer, columns, np.arange(10), np.empty(SCRATCH, np.uint8), out)
    assert 3 <= count < 10
    assert len(fetch(ColumnBatch(out[:size].tobytes(), count, (0, 0), codec="none")._build()).records) == count
    short = np.zeros(len(line) + RECORD_OVERHEAD - 1, np.uint8)
    assert write_records(buffer, columns, np.arange(10), np.empty(SCRATCH, np.uint8), short) == (0, 0)
    assert write_records(buffer, columns, np.arange(0), np.empty(SCRATCH, np.uint8), short) == (0, 0)


@given(st.integers(0, 2**50) | st.integers(0, 20_000))
def test_varint_has_the_computed_size(value: int) -> None:
    out = np.zeros(10, np.uint8)
    end = write_varint(value, out, 0)
    assert (end, out[:end].tobytes()) == (varint_size(value), signed_varint(value))


@given(st.binary(max_size=300))
def test_field_is_its_length_and_its_bytes(buffer: bytes) -> None:
    assert field(buffer) == signed_varint(len(buffer)) + buffer == nullable(buffer)


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_lz4_frame_of_any_size_decompresses_to_its_content(size: int) -> None:
    _, compress = CODECS["lz4"]
    for buffer in (bytes(size), random.Random(size).randbytes(size)):
        packed = compress(buffer)
        assert bytes(cramjam.lz4.decompress(packed)) == buffer
        assert len(packed) <= size + 11 + 4 * -(-size // (1 << 20))
