"""A fetch as one block gives what aiokafka's own reader gives of the same octets, and stops where that stops."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kafka.blocks import Block, BlockRecords, RawRecords
from engine.kafka.decompress import Unpacked
from engine.kafka.resilient_clients import rebound
from tests.support.fetches import Got, Sent, at_offset, by_aiokafka, record_of, records_in, resealed, section_batch
from topics.columns.batches import CONTROL, TRANSACTIONAL

TP = TopicPartition("connections", 3)
ABORT, COMMIT = 0, 1
Aborted = list[tuple[int, int]]


def mail(offset: int, count: int = 3, *, producer: int = -1, codec: str = "none") -> bytes:
    """A batch of ``count`` records, in a transaction if a producer is given."""
    sent = [Sent(1000 + i, b"k%d" % i, b"v%d" % (offset + i)) for i in range(count)]
    return at_offset(by_aiokafka(sent, codec, producer_id=producer, is_transactional=int(producer >= 0)), offset)


def marker(offset: int, kind: int, producer: int) -> bytes:
    """The control batch that ends a transaction."""
    record = record_of(0, Sent(1000, struct.pack(">hh", 0, kind), bytes(6)), 1000)
    batch = resealed(section_batch(record, 1), attributes=CONTROL | TRANSACTIONAL, producer_id=producer)
    return at_offset(batch, offset)


def blocks_of(octets: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> tuple[list[Any], int]:
    """(records that the block reader yields, where it would fetch next)."""
    reader = BlockRecords(TP, RawRecords(octets), aborted, first_offset, None, None, True, READ_COMMITTED)
    return list(reader), reader.next_fetch_offset


def stock(octets: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> tuple[list[Got], int]:
    reader = PartitionRecords(TP, MemoryRecords(octets), aborted, first_offset, None, None, True, READ_COMMITTED)
    return [Got(r.offset, r.timestamp, r.key, r.value) for r in reader], reader.next_fetch_offset


def records_of(block: Block) -> list[Got]:
    unpacked = Unpacked(block)
    return records_in(unpacked.octets, unpacked.arena, unpacked.batches, block.first_offset)


def same(octets: bytes, first_offset: int = 0, aborted: Aborted | None = None) -> list[Got]:
    """The records of a fetch, once both readers were found to agree."""
    found, position = blocks_of(octets, first_offset, aborted)
    expected, expected_position = stock(octets, first_offset, aborted)
    assert position == expected_position
    assert len(found) <= 1
    assert [got for record in found for got in records_of(record.value)] == expected
    for record in found:
        assert record.offset == record.value.last_offset == position - 1
        assert (record.topic, record.partition) == (TP.topic, TP.partition)
    return expected


def test_a_fetch_is_one_record_whose_offset_is_the_last() -> None:
    assert len(same(mail(5) + mail(8, codec="lz4") + mail(11, codec="zstd"))) == 9


@pytest.mark.parametrize("first_offset", range(5, 8))
def test_a_fetch_may_begin_inside_its_first_batch(first_offset: int) -> None:
    assert len(same(mail(5) + mail(8), first_offset)) == 11 - first_offset


def test_a_cut_batch_is_left_for_the_next_fetch() -> None:
    assert len(same(mail(5) + mail(8)[:-1])) == 3


def test_control_batches_are_skipped_and_count_for_the_position() -> None:
    octets = mail(0, producer=7) + marker(3, COMMIT, 7)
    assert len(same(octets)) == 3
    (block,), position = blocks_of(marker(3, COMMIT, 7), 3)
    assert (records_of(block.value), position) == ([], 4)


def test_aborted_transactions_are_left_out() -> None:
    octets = (
        mail(0, producer=7) + mail(3, producer=8) + marker(6, ABORT, 7) + mail(7, producer=7) + marker(10, COMMIT, 8)
    )
    assert [got.offset for got in same(octets, aborted=[(7, 0)])] == [3, 4, 5, 7, 8, 9]
    assert [got.offset for got in same(octets, aborted=[(8, 3), (7, 7)])] == [0, 1, 2]


def test_a_fetch_of_nothing_but_aborted_mail_moves_the_position_and_leaves_no_hole_between_blocks() -> None:
    octets = mail(0, producer=7) + marker(3, ABORT, 7)
    (block,), position = blocks_of(octets, aborted=[(7, 0)])
    assert (block.value.first_offset, block.value.last_offset, position) == (0, 3, 4)
    assert same(octets, aborted=[(7, 0)]) == []


PIECES = st.lists(
    st.tuples(st.sampled_from(["mail", "abort", "commit"]), st.sampled_from([-1, 7, 8]), st.integers(1, 3)),
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
        if kind == "mail" or producer < 0:
            served.append(mail(offset, count, producer=producer))
        else:
            served.append(marker(offset, ABORT if kind == "abort" else COMMIT, producer))
        offset += int.from_bytes(served[-1][23:27], "big") + 1
    first_batch_ends = int.from_bytes(served[0][23:27], "big")
    same(b"".join(served), min(first_offset, first_batch_ends), aborted)


def test_more_batches_than_one_call_finds_are_all_in_the_block() -> None:
    octets = b"".join(mail(offset, 1) for offset in range(2500))
    found, position = blocks_of(octets)
    assert (len(found[0].value.batches), position) == (2500, 2500)
    exactly = b"".join(mail(offset, 1) for offset in range(1024))
    assert len(blocks_of(exactly)[0][0].value.batches) == 1024


@pytest.mark.parametrize("before", [0, 1, 1023, 1024])
def test_a_damaged_batch_is_an_error_once_it_comes_first(before: int) -> None:
    damaged = bytearray(mail(before, 1))
    damaged[-1] ^= 1
    good = b"".join(mail(offset, 1) for offset in range(before))
    if before:
        found, position = blocks_of(good + bytes(damaged) + mail(before + 1, 1))
        assert (len(found[0].value.batches), position) == (before, before)
    with pytest.raises(CorruptRecordException, match=rf"connections-3: batch at offset {before} fails its CRC"):
        blocks_of(bytes(damaged) + mail(before + 1, 1), before)


@pytest.mark.parametrize("octets", [mail(0)[:16] + b"\1" + mail(0)[17:], b"\0" * 11 + b"\7" + bytes(20)])
def test_a_format_before_v2_is_an_error(octets: bytes) -> None:
    with pytest.raises(CorruptRecordException, match="a format before v2"):
        blocks_of(octets)


@given(st.binary(max_size=100) | st.just(mail(0)) | st.integers(0, 200).map(lambda size: (mail(0) * 2)[:size]))
def test_there_is_a_next_batch_only_if_it_is_complete(octets: bytes) -> None:
    ours = RawRecords(octets)
    assert ours.size_in_bytes() == len(octets)
    complete = len(octets) > 12 and len(octets) >= 12 + int.from_bytes(octets[8:12], "big")
    assert ours.has_next() == complete
    if ours.has_next():
        try:
            blocks_of(octets)
        except CorruptRecordException:
            return


def test_the_stamp_of_a_block_is_its_greatest() -> None:
    found, _ = blocks_of(mail(0) + mail(3))
    assert found[0].timestamp == 1002
    assert np.asarray(found[0].value.batches["most_ms"]).tolist() == [1002, 1002]


def outer(x: int) -> int:
    return len(str(x))


def test_rebinding_changes_a_copy_alone_and_refuses_names_that_are_not_used() -> None:
    assert rebound(outer, len=lambda text: -1)(5) == -1
    assert outer(5) == 1
    with pytest.raises(AssertionError, match="doesn't use"):
        rebound(outer, max=min)
