from __future__ import annotations

import cramjam
import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.oracles.records import CODECS, crc32c, records_of
from tests.support.fetches import (
    RECORDS,
    WRITERS,
    Got,
    Sent,
    at_offset,
    by_aiokafka,
    by_columns,
    fetch,
    record_of,
    resealed,
    section_batch,
    signed_varint,
    wanted,
)
from tests.support.kernels import byte_array
from topics.columns import batches as batches_module
from topics.columns.batches import BATCH, find_batches
from topics.columns.batchwrite import CODECS as WRITTEN_CODECS
from topics.columns.batchwrite import ColumnBatch
from topics.columns.crc import checksum

TIME_MS = 1_700_000_000_000
THREE = [Sent(TIME_MS + i, b"k%d" % i, b"value %d" % i) for i in range(3)]
FORMS = [
    (writer, codec) for writer in WRITERS for codec in CODECS if writer != "kafka-python" or codec in {"none", "gzip"}
]


def read_by_oracle(buffer: bytes, first_offset: int = 0) -> list[Got]:
    return [
        Got(*record[:4])
        for record in ((r.offset, r.timestamp_ms, r.key, r.value) for r in records_of(buffer, first_offset))
    ]


def read_by_aiokafka(buffer: bytes) -> list[Got]:
    reader, found = MemoryRecords(buffer), []
    while reader.has_next():
        batch = reader.next_batch()
        assert batch.validate_crc()
        found += [Got(record.offset, record.timestamp, record.key, record.value) for record in batch]
    return found


@pytest.mark.parametrize(("writer", "codec"), FORMS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(records=RECORDS, base_offset=st.sampled_from([0, 7, 2**40]))
@example(records=[Sent(5, None, None), Sent(TIME_MS, b"", b""), Sent(4, b"k", b"v" * 20_000)], base_offset=1)
def test_records_of_every_writer_and_codec_are_read_back(
    writer: str, codec: str, records: list[Sent], base_offset: int
) -> None:
    buffer = at_offset(WRITERS[writer](records, codec), base_offset)
    found = fetch(buffer)
    assert found.batches["sound"].tolist() == [1]
    assert found.used == len(buffer)
    assert found.records == wanted(records, base_offset) == read_by_oracle(buffer) == read_by_aiokafka(buffer)


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_thousands_of_records_are_read_completely(codec: str) -> None:
    records = [Sent(TIME_MS + i, b"%d" % (i % 99), b'{"ts":%d}' % i) for i in range(5000)]
    buffer = b"".join(at_offset(by_aiokafka(records[at : at + 1000], codec), at) for at in range(0, 5000, 1000))
    assert fetch(buffer).records == wanted(records)


def test_every_readable_codec_can_be_written() -> None:
    assert tuple(WRITTEN_CODECS) == CODECS


@pytest.mark.parametrize("codec", CODECS)
def test_other_clients_read_a_column_batch(codec: str) -> None:
    ours, theirs = by_columns(THREE, codec), by_aiokafka(THREE, codec)
    assert read_by_aiokafka(ours) == read_by_aiokafka(theirs) == wanted(THREE)
    assert (ours[:8], ours[16:17], ours[21:61]) == (theirs[:8], theirs[16:17], theirs[21:61])
    assert next(iter(MemoryRecords(ours).next_batch())).timestamp_type == 0


def test_column_batch_reports_its_size_and_producer() -> None:
    batch = ColumnBatch(record_of(0, THREE[0], TIME_MS), 1, (TIME_MS, TIME_MS), codec="lz4", transactional=True)
    batch._set_producer_state(77, 5, 9)
    batch.close()
    assert batch.closed()
    assert (batch.record_count(), batch.size()) == (1, len(batch._build()))
    read = MemoryRecords(batch._build()).next_batch()
    assert (read.producer_id, read.producer_epoch, read.base_sequence, read.is_transactional) == (77, 5, 9, True)


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_cut_fetch_ends_with_its_last_whole_batch(codec: str) -> None:
    first, second = at_offset(by_aiokafka(THREE, codec), 0), at_offset(by_aiokafka(THREE, codec), 3)
    for size in range(len(first) + len(second)):
        found = fetch((first + second)[:size])
        assert found.used == (len(first) if size >= len(first) else 0)
        assert found.records == (wanted(THREE) if size >= len(first) else [])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("first_offset", range(9))
def test_records_below_the_first_offset_are_dropped(codec: str, first_offset: int) -> None:
    buffer = at_offset(by_aiokafka(THREE, codec), 2) + at_offset(by_aiokafka(THREE, codec), 5)
    both = wanted(THREE, 2) + wanted(THREE, 5)
    assert fetch(buffer, first_offset).records == [record for record in both if record.offset >= first_offset]


def test_last_offset_of_a_compacted_batch_covers_removed_records() -> None:
    section = record_of(1, THREE[0], 1000) + record_of(6, THREE[1], 1000)
    found = fetch(at_offset(section_batch(section, 2, last_delta=9), 100))
    assert [record.offset for record in found.records] == [101, 106]
    assert found.batches["last_offset"].tolist() == [109]


def test_append_time_of_the_broker_applies_to_every_record() -> None:
    buffer = resealed(by_aiokafka(THREE), attributes=0x08, most_ms=TIME_MS + 99)
    assert {record.timestamp_ms for record in fetch(buffer).records} == {TIME_MS + 99}
    assert fetch(buffer).records == read_by_aiokafka(buffer)


def test_batch_head_is_read() -> None:
    buffer = at_offset(by_aiokafka(THREE, "zstd", is_transactional=1, producer_id=2**40, producer_epoch=3), 2**50)
    batch = fetch(buffer).batches[0]
    assert (batch["base_offset"], batch["last_offset"], batch["records"]) == (2**50, 2**50 + 2, 3)
    assert (batch["base_ms"], batch["most_ms"], batch["producer_id"]) == (TIME_MS, TIME_MS + 2, 2**40)
    assert (batch["attributes"], batch["unpacked"], batch["skip"]) == (0x14, 1, 0)


def test_skipped_batch_is_neither_unpacked_nor_read() -> None:
    buffer = at_offset(by_aiokafka(THREE, "gzip"), 0) + at_offset(by_aiokafka(THREE), 3)
    found = np.zeros(4, BATCH)
    count, _ = find_batches(byte_array(buffer), 0, True, found)
    found["skip"] = 1
    arena = batches_module.unpack(buffer, found[:count], np.empty(0, np.uint8))
    arena.flags.writeable = False
    columns = batches_module.empty_records(8)
    assert (len(arena), batches_module.read_records(byte_array(buffer), arena, found[:count], 0, columns)) == (0, 0)


def test_batches_beyond_the_room_are_found_by_the_next_call() -> None:
    buffer = b"".join(at_offset(by_aiokafka(THREE), 3 * i) for i in range(5))
    room, at, found = np.zeros(2, BATCH), 0, []
    while (step := find_batches(byte_array(buffer), at, True, room))[0]:
        count, at = step
        found += room["base_offset"][:count].tolist()
    assert (found, at) == ([0, 3, 6, 9, 12], len(buffer))


@given(st.binary(max_size=100))
@example(b"123456789")
def test_checksum_is_crc32c(buffer: bytes) -> None:
    assert checksum(byte_array(buffer)) == crc32c(buffer)
    assert checksum(byte_array(b"123456789")) == 0xE3069283


SOUND = at_offset(by_aiokafka(THREE), 0)
FOLLOWER = at_offset(by_aiokafka(THREE), 3)


@pytest.mark.parametrize("at", [17, 21, 23, 27, 35, 43, 57, 61, len(SOUND) - 1])
def test_flipped_bit_fails_the_checksum_and_ends_the_fetch(at: int) -> None:
    damaged = bytearray(SOUND)
    damaged[at] ^= 0x40
    found = fetch(FOLLOWER + bytes(damaged) + FOLLOWER)
    assert found.batches["sound"].tolist() == [1, 0]
    assert (found.used, found.records) == (len(FOLLOWER), wanted(THREE, 3))


def test_checksum_check_can_be_disabled() -> None:
    damaged = SOUND[:17] + b"\0\0\0\0" + SOUND[21:]
    assert fetch(damaged, check_crc=False).records == wanted(THREE)


@pytest.mark.parametrize("magic", [0, 1, 3, 255])
def test_batch_of_another_format_is_unsound(magic: int) -> None:
    found = fetch(SOUND[:16] + bytes([magic]) + SOUND[17:])
    assert (found.batches["sound"].tolist(), found.used, found.records) == ([0], 0, [])


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 48])
def test_impossible_length_is_unsound(length: int) -> None:
    found = fetch(SOUND[:8] + length.to_bytes(4, "big", signed=True) + SOUND[12:])
    assert (found.batches["sound"].tolist(), found.used) == ([0], 0)


@pytest.mark.parametrize("length", [len(SOUND), 2**31 - 1])
def test_length_beyond_the_fetch_is_a_cut_batch(length: int) -> None:
    assert fetch(SOUND[:8] + length.to_bytes(4, "big") + SOUND[12:]).used == 0


@pytest.mark.parametrize(("count", "given", "sound"), [(4, 3, 0), (2**31 - 1, 3, 0), (2, 2, 1), (0, 0, 1), (-5, 0, 1)])
def test_wrong_record_count_gives_no_extra_records(count: int, given: int, sound: int) -> None:
    found = fetch(resealed(SOUND, count=count, last_delta=max(count, 3) - 1) + FOLLOWER)
    assert found.records == wanted(THREE)[:given] + wanted(THREE, 3)
    assert found.batches["sound"].tolist() == [sound, 1]


GOOD = record_of(0, Sent(1000, b"k", b"v"), 1000)
BROKEN = {
    "empty section": b"",
    "length without end": b"\xff" * 11,
    "length beyond the section": b"\x7e" + GOOD[1:],
    "negative length": signed_varint(-1) + GOOD[1:],
    "length nothing": b"\0",
    "no timestamp": signed_varint(1) + b"\0",
    "timestamp without end": signed_varint(12) + b"\0" + b"\x80" * 11,
    "no offset": signed_varint(2) + b"\0\0",
    "no key": signed_varint(3) + b"\0\0\0",
    "key longer than its record": signed_varint(6) + b"\0\0\0" + signed_varint(3) + b"ab",
    "key length below null": signed_varint(6) + b"\0\0\0" + signed_varint(-2) + b"\1\0",
    "no value": signed_varint(4) + b"\0\0\0\1",
    "value of 2^62 buffer": signed_varint(15) + b"\0\0\0\1" + signed_varint(2**62) + b"\0",
    "value longer than its record": signed_varint(7) + b"\0\0\0\1" + signed_varint(2) + b"a",
    "no headers": signed_varint(5) + b"\0\0\0\1\1",
    "offset below the batch": record_of(-1, Sent(1000, b"k", b"v"), 1000),
    "offset beyond the batch": record_of(2, Sent(1000, b"k", b"v"), 1000),
    "offset of 2^60": record_of(2**60, Sent(1000, b"k", b"v"), 1000),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_malformed_record_ends_only_its_batch(fault: str) -> None:
    found = fetch(section_batch(GOOD + BROKEN[fault], 2) + FOLLOWER)
    assert found.batches["sound"].tolist() == [0, 1]
    assert found.records == [Got(0, 1000, b"k", b"v"), *wanted(THREE, 3)]


def test_records_without_a_header_count_fit_the_columns() -> None:
    short = signed_varint(5) + b"\0\0\0\1\1"
    assert fetch(section_batch(short * 700, 700)).records == []


ZEROS = bytes(1 << 18)
BOMBS = {
    "gzip": bytes(cramjam.gzip.compress(ZEROS)),
    "snappy": bytes(cramjam.snappy.compress_raw(ZEROS)),
    "lz4": bytes(cramjam.lz4.compress(ZEROS)),
    "zstd": bytes(cramjam.zstd.compress(ZEROS)),
}


@pytest.mark.parametrize("codec", BOMBS)
def test_decompression_bomb_is_refused_and_other_batches_are_read(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "MAX_UNPACKED_BYTES", 1 << 16)
    bomb = section_batch(BOMBS[codec], 3, CODECS.index(codec))
    before, behind = at_offset(by_aiokafka(THREE, codec), 0), at_offset(by_aiokafka(THREE, codec), 6)
    found = fetch(before + at_offset(bomb, 3) + behind)
    assert found.batches["sound"].tolist() == [1, 0, 1]
    assert found.records == wanted(THREE) + wanted(THREE, 6)


@pytest.mark.parametrize("codec", BOMBS)
def test_batch_that_unpacks_below_the_limit_is_read_at_any_ratio(codec: str) -> None:
    records = [Sent(TIME_MS, b"", ZEROS)] * 2
    assert fetch(by_aiokafka(records, codec) + at_offset(by_aiokafka(THREE, codec), 2)).records == [
        *wanted(records),
        *wanted(THREE, 2),
    ]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("damage", [b"", b"\0", b"\xff" * 40, b"\x82SNAPPY\0", b"\x82SNAPPY\0" + b"\0" * 12])
def test_batch_that_cannot_be_unpacked_is_unsound(codec: int, damage: bytes) -> None:
    found = fetch(section_batch(damage, 1, codec) + FOLLOWER)
    assert found.batches["sound"].tolist() == [0, 1]
    assert found.records == wanted(THREE, 3)


def xerial(section: bytes, chunk: int) -> bytes:
    blocks = [bytes(cramjam.snappy.compress_raw(section[at : at + chunk])) for at in range(0, len(section), chunk)]
    return b"\x82SNAPPY\0" + b"\0\0\0\1" * 2 + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_snappy_is_read_raw_and_in_xerial_framing(chunk: int) -> None:
    section = b"".join(record_of(i, sent, 1000) for i, sent in enumerate(THREE))
    raw = section_batch(bytes(cramjam.snappy.compress_raw(section)), 3, 2)
    chunks = section_batch(xerial(section, chunk), 3, 2)
    assert fetch(raw).records == fetch(chunks).records == read_by_aiokafka(chunks) == wanted(THREE)
    cut = section_batch(xerial(section, chunk)[:-1], 3, 2)
    assert fetch(cut).batches["sound"].tolist() == [0]
