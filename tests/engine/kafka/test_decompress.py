"""Batches decompressed into buffers that are reused, without trusting their claims."""

from __future__ import annotations

from pathlib import Path

import cramjam
import numpy as np

from engine.config.options import OPTIONS
from engine.kafka.blocks import Block
from engine.kafka.decompress import ARENA_BYTES, Unpacked, Workspace
from tests.support.fetches import Sent, at_offset, by_aiokafka, by_columns, resealed
from tests.support.kernels import byte_array
from tests.support.months import write_month
from topics.columns.batches import BATCH, MAX_UNPACKED_BYTES, find_batches, read_events
from topics.columns.scan import POISON, READY

EVENTS = [Sent(1000 + i, None, b'{"ts":%d,"ip":"192.0.2.%d"}' % (1000 + i, i % 250)) for i in range(500)]


def block_of(raw: bytes) -> Block:
    found = np.zeros(16, BATCH)
    count, _ = find_batches(byte_array(raw), 0, True, found)
    return Block("connections", 0, 0, int(found["last_offset"][count - 1]), raw, found[:count])


def test_value_is_read_from_the_buffer_that_holds_it() -> None:
    raw = by_aiokafka(EVENTS[:2]) + at_offset(by_aiokafka(EVENTS[2:4], "lz4"), 2)
    raw += at_offset(by_aiokafka([Sent(5, b"k", None)]), 4)
    unpacked, columns = Workspace().unpack(block_of(raw))
    count = read_events(unpacked.raw, unpacked.arena, unpacked.batches, 0, columns)
    assert [unpacked.value(columns, i) for i in range(count)] == [sent.value for sent in EVENTS[:4]] + [b""]
    assert columns.status[:count].tolist() == [READY] * 4 + [POISON]


def test_room_follows_the_size_of_batches_not_their_claims() -> None:
    honest = block_of(by_columns(EVENTS))
    assert len(EVENTS) <= Unpacked(honest).max_records <= len(honest.raw)
    liar = block_of(resealed(by_columns(EVENTS), count=2**31 - 1, last_delta=2**31 - 2))
    assert Unpacked(liar).max_records <= len(liar.raw)
    assert Unpacked(block_of(resealed(by_columns(EVENTS), count=-7))).max_records == 0


def test_skipped_batches_need_no_room() -> None:
    block = block_of(by_columns(EVENTS, "gzip"))
    block.batches["skip"] = 1
    assert Unpacked(block).max_records == 0


def test_workspace_grows_to_the_largest_block_and_keeps_its_room() -> None:
    workspace = Workspace()
    large = [Sent(0, None, bytes(ARENA_BYTES)), *[Sent(0, None, b"x")] * 20_000]
    first, columns = workspace.unpack(block_of(by_columns(large, "zstd")))
    assert len(columns.offset) >= len(large)
    assert len(first.arena) > ARENA_BYTES
    second, again = workspace.unpack(block_of(by_columns(EVENTS, "zstd")))
    assert (again is columns, len(second.arena)) == (True, len(first.arena))


def test_block_can_be_unpacked_again() -> None:
    block = block_of(by_columns(EVENTS, "snappy"))
    before = block.batches.copy()
    assert Unpacked(block).arena.tobytes() != b""
    assert (block.batches == before).all()


def test_events_compress_less_than_a_fetch_may_unpack(tmp_path: Path) -> None:
    lines = write_month(tmp_path / "month.ndjson").read_bytes()[: 1 << 20]
    best = min(len(cramjam.zstd.compress(lines, 19)), len(cramjam.gzip.compress(lines, 9)))
    most = next(option.rule.high for option in OPTIONS if option.path == "worker.fetch_bytes")
    assert most is not None
    assert 1.5 * len(lines) / best * most < MAX_UNPACKED_BYTES
