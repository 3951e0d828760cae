"""Invariant tested: a fetch of any bytes is read to its end without a crash and without an access outside its buffers. If the
slow reader of the format can read the bytes, it returns the same records."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracles.records import CODECS, Malformed, read_batches, records_of
from tests.support.fences import PAGE, FencedPage
from tests.support.fetches import (
    WRITERS,
    Got,
    Sent,
    at_offset,
    fetch,
    records_in,
    resealed,
    section_batch,
    unpacked_arena,
)
from tests.support.kernels import byte_array
from topics.columns.batches import BATCH, find_batches, read_events
from topics.columns.scan import POISON, READY, SLOW, empty_columns

FETCHED, UNPACKED = FencedPage(), FencedPage()
VALUES = st.sampled_from(
    [None, b"", b'{"ts":1700000000000,"ip":"192.0.2.1"}', b'{"ts":1,"ip":"::","messages":7}', b"{}", b"x" * 40]
)
RECORDS = st.lists(
    st.builds(Sent, st.integers(0, 2**40), st.none() | st.binary(max_size=9), VALUES), min_size=1, max_size=6
)
FUZZ = settings(max_examples=5 * settings().max_examples // 2, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    writer, codec = draw(st.sampled_from(["aiokafka", "tidegate"])), draw(st.sampled_from(CODECS))
    return at_offset(WRITERS[writer](draw(RECORDS), codec), draw(st.sampled_from([0, 3, 2**40])))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a batch with bytes changed, inserted or removed, mostly with a matching checksum."""
    batch = bytearray(draw(batches()))
    for _ in range(draw(st.integers(1, 4))):
        at, removed = draw(st.integers(16, len(batch))), draw(st.integers(0, 3))
        batch[at : at + removed] = draw(st.binary(max_size=3) | st.sampled_from([b"\xff" * 10, b"\x80\x01", b"\x01"]))
    return resealed(bytes(batch)) if len(batch) > 61 and draw(st.integers(0, 4)) else bytes(batch)


SECTIONS = st.builds(section_batch, st.binary(max_size=80), st.integers(-1, 40), st.integers(0, 7))
FETCHES = st.lists(st.one_of(batches(), damaged(), SECTIONS, st.binary(max_size=90)), min_size=1, max_size=4).map(
    b"".join
)


def between_fences(data: bytes, first_offset: int) -> list[Got]:
    """Return the records of `fetch`, with the data and its unpacked part each at the end of a page before an unreadable one."""
    view, found = FETCHED.at_end(data), np.zeros(64, BATCH)
    count, _ = find_batches(view, 0, True, found)
    sound = found[: int(found["sound"][:count].sum())]
    arena = unpacked_arena(data, sound)
    used = int(sound["end"][sound["unpacked"] == 1].max(initial=0))
    return records_in(view, UNPACKED.at_end(arena[:used].tobytes()) if used <= PAGE else arena, sound, first_offset)


@FUZZ
@given(FETCHES, st.sampled_from([0, 2, 5, 2**40]))
def test_any_fetch_is_read_within_its_buffers(data: bytes, first_offset: int) -> None:
    data = data[:PAGE]

    found = fetch(data, first_offset)

    assert between_fences(data, first_offset) == found.records
    assert 0 <= found.used <= len(data)
    assert all(record.offset >= first_offset for record in found.records)


@FUZZ
@given(FETCHES)
def test_fetch_equals_the_slow_reader(data: bytes) -> None:
    try:
        slow = records_of(data)
        whole = read_batches(data)
    except Malformed:
        return
    if any(not batch.base_offset <= r.offset <= batch.last_offset for batch in whole for r in batch.records):
        return

    found = fetch(data)

    assert found.records == [Got(r.offset, r.timestamp_ms, r.key, r.value) for r in slow]
    assert found.batches["sound"].sum() == len(whole) or not all(batch.records for batch in whole)  # gzip of nothing


@FUZZ
@given(FETCHES)
def test_events_equal_the_records_of_a_fetch(data: bytes) -> None:
    view, found = byte_array(data), np.zeros(64, BATCH)
    count, _ = find_batches(view, 0, True, found)
    sound = found[: int(found["sound"][:count].sum())]
    arena = unpacked_arena(data, sound)
    records = records_in(view, arena, np.array(sound), 0)
    columns = empty_columns(len(records) + 1)
    assert read_events(view, arena, sound, 0, columns) == len(records)
    for i, record in enumerate(records):
        source = arena if columns.unpacked[i] else view
        assert (int(columns.offset[i]), int(columns.record_ms[i])) == record[:2]
        if record.value is None:
            assert (columns.status[i], columns.length[i]) == (POISON, -1)
        else:
            assert source[columns.start[i] :][: columns.length[i]].tobytes() == record.value
            assert columns.status[i] in {READY, SLOW}


@given(st.binary(max_size=2000), st.integers(0, 100))
def test_position_stays_within_invalid_batches(data: bytes, at: int) -> None:
    room = np.zeros(3, BATCH)

    count, end = find_batches(byte_array(data), min(at, len(data)), True, room)

    assert min(at, len(data)) <= end <= len(data)
    assert all(room["sound"][: max(count - 1, 0)])
