from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.records import crc32c, records_of
from tests.support.fetches import Sent, by_aiokafka, record_of, section_batch
from tests.support.kernels import byte_array
from topics.changelog import FILTER_KIND, HEAD, KINDS, POOL_KIND, ROW_KIND, SITE_KIND
from topics.columns.batches import BATCH, RecordColumns, empty_records, find_batches, read_records
from topics.columns.batchwrite import ColumnBatch
from topics.columns.rows import (
    HEAD_SIZE,
    NEWER,
    OK,
    RECORD_ROOM,
    WRONG_CRC,
    WRONG_SIZE,
    check_rows,
    read_rows,
    write_rows,
    write_tombstones,
    write_whole,
)

ROW_SIZE, SITE_SIZE, POOL_SIZE, OLD_ROW_SIZE = 40, 56, 24, 32
VERSION, EPOCH = 3, 0xFEDCBA98
SIZES = np.full((VERSION + 1, KINDS), -1, np.int64)
SIZES[VERSION, [ROW_KIND, SITE_KIND, POOL_KIND]] = ROW_SIZE, SITE_SIZE, POOL_SIZE
SIZES[VERSION - 1, ROW_KIND] = OLD_ROW_SIZE
Bytes = npt.NDArray[np.uint8]


class Checked(NamedTuple):
    """The result of `check_rows` for a fetch, and the fetch."""

    read: int
    fault: int
    keys: list[int]
    kinds: list[int]
    versions: list[int]
    buffer: Bytes
    records: RecordColumns


def table(rows: int, seed: int = 1) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (rows, ROW_SIZE), np.uint8)


def section(rows: Bytes, slots: list[int], kind: int = ROW_KIND) -> bytes:
    out = np.zeros(len(slots) * (ROW_SIZE + RECORD_ROOM), np.uint8)
    size = write_rows(rows, np.array(slots, np.uint32), (kind, VERSION, EPOCH), out)
    return out[:size].tobytes()


def check(batch: bytes) -> Checked:
    view, found = byte_array(batch), np.zeros(1, BATCH)
    assert find_batches(view, 0, True, found) == (1, len(batch))
    count = int(found["records"][0])
    records, nothing = empty_records(count), byte_array(b"")
    assert read_records(view, nothing, found, 0, records) == count
    keys, kinds, versions = np.zeros(count, np.uint64), np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    scratch = (np.zeros(SITE_SIZE + HEAD_SIZE, np.uint8), keys, kinds, versions)
    read, fault = check_rows(view, nothing, records, SIZES, scratch)
    heads = keys[:read].tolist(), kinds[:read].tolist(), versions[:read].tolist()
    return Checked(read, fault, heads[0], heads[1], heads[2], view, records)


def check_values(*values: bytes) -> Checked:
    return check(by_aiokafka([Sent(0, b"k", value) for value in values]))


def value_of(row: bytes, version: int = VERSION, kind: int = ROW_KIND) -> bytes:
    """Return a changelog value as its documentation defines it."""
    blank = HEAD.pack(version, kind, EPOCH, 0, len(row)) + row
    return HEAD.pack(version, kind, EPOCH, crc32c(blank), len(row)) + row


@settings(max_examples=50)
@given(st.lists(st.integers(0, 19), max_size=30), st.integers(0, 5))
def test_written_rows_are_read_back(slots: list[int], seed: int) -> None:
    rows = table(20, seed)
    checked = check(ColumnBatch(section(rows, slots), len(slots), (0, 0), codec="none")._build())
    assert (checked.read, checked.fault) == (len(slots), OK)
    assert checked.keys == [int.from_bytes(rows[i, :8].tobytes(), "little") for i in slots]
    back = np.zeros((20, ROW_SIZE), np.uint8)
    read_rows(checked.buffer, byte_array(b""), checked.records, np.array(slots, np.int64), back)
    assert (back[slots] == rows[slots]).all()
    assert not back[[i for i in range(20) if i not in slots]].any()


def test_row_record_has_the_documented_form() -> None:
    rows = table(2)
    batch = ColumnBatch(section(rows, [1, 0]), 2, (7, 7), codec="none")._build()
    records = records_of(batch)
    assert [record.key for record in records] == [rows[i, :8].tobytes()[::-1] for i in (1, 0)]
    assert [record.value for record in records] == [value_of(rows[i].tobytes()) for i in (1, 0)]
    assert [record.headers for record in records] == [(), ()]


def test_batch_of_thousands_of_rows_fits_the_computed_room() -> None:
    rows = table(5000)
    records = records_of(ColumnBatch(section(rows, list(range(5000))), 5000, (0, 0), codec="none")._build())
    assert [record.offset for record in records] == list(range(5000))
    assert records[-1].value == value_of(rows[-1].tobytes())


def test_site_record_has_the_documented_form_and_its_own_kind() -> None:
    site = byte_array(bytes(range(SITE_SIZE)))
    out = np.zeros(HEAD_SIZE + SITE_SIZE, np.uint8)
    assert write_whole(site, (SITE_KIND, VERSION, EPOCH), out) == len(out)
    assert out.tobytes() == value_of(site.tobytes(), kind=SITE_KIND)
    checked = check_values(value_of(bytes(ROW_SIZE)), out.tobytes())
    assert (checked.fault, checked.kinds) == (OK, [ROW_KIND, SITE_KIND])


def test_key_of_another_tables_row_begins_with_its_kind() -> None:
    rows = np.ascontiguousarray(table(2)[:, :POOL_SIZE])
    batch = ColumnBatch(section(rows, [1, 0], POOL_KIND), 2, (7, 7), codec="none")._build()
    assert [(record.key, record.value) for record in records_of(batch)] == [
        (bytes([POOL_KIND]) + rows[i, :8].tobytes()[::-1], value_of(rows[i].tobytes(), kind=POOL_KIND)) for i in (1, 0)
    ]
    assert check(batch).kinds == [POOL_KIND, POOL_KIND]


@pytest.mark.parametrize(("kind", "before"), [(ROW_KIND, b""), (POOL_KIND, bytes([POOL_KIND]))])
def test_tombstone_has_the_rows_key_and_no_value(kind: int, before: bytes) -> None:
    keys = np.arange(2000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    out = np.zeros(len(keys) * RECORD_ROOM, np.uint8)
    size = write_tombstones(keys, kind, out)
    records = records_of(ColumnBatch(out[:size].tobytes(), len(keys), (0, 0), codec="none")._build())
    assert [record.key for record in records] == [before + int(key).to_bytes(8, "big") for key in keys]
    assert {record.value for record in records} == {None}


def test_record_with_a_negative_slot_is_skipped() -> None:
    checked = check_values(value_of(bytes([1]) * ROW_SIZE), value_of(bytes([2]) * ROW_SIZE))
    back = np.zeros((1, ROW_SIZE), np.uint8)
    read_rows(checked.buffer, byte_array(b""), checked.records, np.array([-1, 0], np.int64), back)
    assert set(back[0].tolist()) == {2}


def test_every_flipped_bit_is_a_fault() -> None:
    good = value_of(bytes(range(ROW_SIZE)))
    for at in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            checked = check_values(good, bytes(damaged))
            assert checked.read == 1, (at, bit)
            assert checked.fault in {WRONG_CRC, WRONG_SIZE, NEWER}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", WRONG_SIZE),
        (bytes(HEAD_SIZE - 1), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE))[:-1], WRONG_SIZE),
        (value_of(bytes(ROW_SIZE)) + b"\0", WRONG_SIZE),
        (value_of(bytes(ROW_SIZE + 8)), WRONG_SIZE),
        (value_of(bytes(SITE_SIZE)), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE), kind=SITE_KIND), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE), version=VERSION + 1), NEWER),
        (value_of(bytes(ROW_SIZE + 8), version=VERSION + 1), NEWER),
        (value_of(bytes(ROW_SIZE), version=0xFFFF), NEWER),
        (value_of(bytes(ROW_SIZE), version=VERSION - 1), WRONG_SIZE),
        (value_of(bytes(OLD_ROW_SIZE), version=VERSION - 1), OK),
        (value_of(bytes(OLD_ROW_SIZE), version=VERSION - 2), WRONG_SIZE),
        (value_of(b"", version=0), WRONG_SIZE),
        (value_of(b"", kind=0), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE), kind=FILTER_KIND), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE), kind=KINDS), WRONG_SIZE),
        (value_of(bytes(ROW_SIZE), kind=ROW_KIND + 256), WRONG_SIZE),
    ],
)
def test_foreign_value_has_its_fault(value: bytes, fault: int) -> None:
    assert check_values(value).fault == fault


@given(st.binary(max_size=80))
def test_arbitrary_value_is_a_fault(value: bytes) -> None:
    assert check_values(value).fault != OK


def test_rows_after_other_records_of_a_batch_are_read() -> None:
    values = [value_of(bytes([i]) * ROW_SIZE) for i in range(3)]
    parts = b"".join(record_of(i, Sent(1000, b"key %d" % i, value), 1000) for i, value in enumerate(values))
    assert check(section_batch(parts, 3)).keys == [int.from_bytes(bytes([i]) * 8, "little") for i in range(3)]
