"""A fetch as one block contains the records that aiokafka's own reader yields, and stops at the same offset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kafka.blocks import Block, BlockRecords, RawRecords
from engine.kafka.clients import rebound
from engine.kafka.decompress import Unpacked
from tests.support.fetches import Got, records_in
from tests.support.transactions import ABORT, COMMIT, TP, batch_at, marker

Aborted = list[tuple[int, int]]


def blocks_of(raw: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> tuple[list[Any], int]:
    """Return the records that the block reader yields, and its next fetch offset."""
    reader = BlockRecords(TP, RawRecords(raw), aborted, first_offset, None, None, True, READ_COMMITTED)
    return list(reader), reader.next_fetch_offset


def stock(raw: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> tuple[list[Got], int]:
    reader = PartitionRecords(TP, MemoryRecords(raw), aborted, first_offset, None, None, True, READ_COMMITTED)
    return [Got(r.offset, r.timestamp, r.key, r.value) for r in reader], reader.next_fetch_offset


def records_of(block: Block) -> list[Got]:
    unpacked = Unpacked(block)
    return records_in(unpacked.raw, unpacked.arena, unpacked.batches, block.first_offset)


def same(raw: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> list[Got]:
    """Return the records of a fetch, after checking that both readers agree."""
    found, position = blocks_of(raw, first_offset, aborted)
    expected, expected_position = stock(raw, first_offset, aborted)
    assert position == expected_position
    assert len(found) <= 1
    assert [got for record in found for got in records_of(record.value)] == expected
    for record in found:
        assert record.offset == record.value.last_offset == position - 1
        assert (record.topic, record.partition) == (TP.topic, TP.partition)
    return expected


def test_fetch_is_one_record_with_the_last_offset() -> None:
    assert len(same(batch_at(5) + batch_at(8, codec="lz4") + batch_at(11, codec="zstd"))) == 9


@pytest.mark.parametrize("first_offset", range(5, 8))
def test_fetch_may_begin_inside_its_first_batch(first_offset: int) -> None:
    assert len(same(batch_at(5) + batch_at(8), first_offset)) == 11 - first_offset


def test_cut_batch_is_left_for_the_next_fetch() -> None:
    assert len(same(batch_at(5) + batch_at(8)[:-1])) == 3


def test_control_batches_are_skipped_and_count_for_the_position() -> None:
    raw = batch_at(0, producer=7) + marker(3, COMMIT, 7)
    assert len(same(raw)) == 3
    (block,), position = blocks_of(marker(3, COMMIT, 7), 3)
    assert (records_of(block.value), position) == ([], 4)


def test_aborted_transactions_are_left_out() -> None:
    raw = (
        batch_at(0, producer=7)
        + batch_at(3, producer=8)
        + marker(6, ABORT, 7)
        + batch_at(7, producer=7)
        + marker(10, COMMIT, 8)
    )
    assert [got.offset for got in same(raw, aborted=[(7, 0)])] == [3, 4, 5, 7, 8, 9]
    assert [got.offset for got in same(raw, aborted=[(8, 3), (7, 7)])] == [0, 1, 2]


def test_fetch_of_aborted_records_moves_the_position_and_leaves_no_gap() -> None:
    raw = batch_at(0, producer=7) + marker(3, ABORT, 7)
    (block,), position = blocks_of(raw, aborted=[(7, 0)])
    assert (block.value.first_offset, block.value.last_offset, position) == (0, 3, 4)
    assert same(raw, aborted=[(7, 0)]) == []


PIECES = st.lists(
    st.tuples(st.sampled_from(["batch", "abort", "commit"]), st.sampled_from([-1, 7, 8]), st.integers(1, 3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=3 * settings().max_examples // 2)
@given(PIECES, st.lists(st.tuples(st.sampled_from([7, 8]), st.integers(0, 20)), max_size=4), st.integers(0, 2))
def test_any_mixture_of_transactions_is_read_as_by_the_stock_reader(
    pieces: list[tuple[str, int, int]], aborted: Aborted, first_offset: int
) -> None:
    served, offset = list[bytes](), 0
    for kind, producer, count in pieces:
        if kind == "batch" or producer < 0:
            served.append(batch_at(offset, count, producer=producer))
        else:
            served.append(marker(offset, ABORT if kind == "abort" else COMMIT, producer))
        offset += int.from_bytes(served[-1][23:27], "big") + 1
    first_batch_ends = int.from_bytes(served[0][23:27], "big")
    same(b"".join(served), min(first_offset, first_batch_ends), aborted)


def test_more_batches_than_one_call_finds_are_all_in_the_block() -> None:
    raw = b"".join(batch_at(offset, 1) for offset in range(2500))
    found, position = blocks_of(raw)
    assert (len(found[0].value.batches), position) == (2500, 2500)
    exactly = b"".join(batch_at(offset, 1) for offset in range(1024))
    assert len(blocks_of(exactly)[0][0].value.batches) == 1024


@pytest.mark.parametrize("before", [0, 1, 1023, 1024])
def test_damaged_batch_is_an_error_once_it_comes_first(before: int) -> None:
    damaged = bytearray(batch_at(before, 1))
    damaged[-1] ^= 1
    good = b"".join(batch_at(offset, 1) for offset in range(before))
    if before:
        found, position = blocks_of(good + bytes(damaged) + batch_at(before + 1, 1))
        assert (len(found[0].value.batches), position) == (before, before)
    with pytest.raises(CorruptRecordException, match=rf"connections-3: batch at offset {before} fails its CRC"):
        blocks_of(bytes(damaged) + batch_at(before + 1, 1), before)


@pytest.mark.parametrize("raw", [batch_at(0)[:16] + b"\1" + batch_at(0)[17:], b"\0" * 11 + b"\7" + bytes(20)])
def test_format_before_v2_is_an_error(raw: bytes) -> None:
    with pytest.raises(CorruptRecordException, match="a format before v2"):
        blocks_of(raw)


@given(st.binary(max_size=100) | st.just(batch_at(0)) | st.integers(0, 200).map(lambda size: (batch_at(0) * 2)[:size]))
def test_next_batch_exists_only_if_it_is_complete(raw: bytes) -> None:
    ours = RawRecords(raw)
    assert ours.size_in_bytes() == len(raw)
    complete = len(raw) > 12 and len(raw) >= 12 + int.from_bytes(raw[8:12], "big")
    assert ours.has_next() == complete
    if ours.has_next():
        try:
            blocks_of(raw)
        except CorruptRecordException:
            return


def test_timestamp_of_a_block_is_the_greatest_of_its_batches() -> None:
    found, _ = blocks_of(batch_at(0) + batch_at(3))
    assert found[0].timestamp == 1002
    assert np.asarray(found[0].value.batches["most_ms"]).tolist() == [1002, 1002]


def outer(x: int) -> int:
    return len(str(x))


def test_rebinding_changes_only_a_copy_and_refuses_unused_names() -> None:
    assert rebound(outer, len=lambda text: -1)(5) == -1
    assert outer(5) == 1
    with pytest.raises(AssertionError, match="doesn't use"):
        rebound(outer, max=min)
