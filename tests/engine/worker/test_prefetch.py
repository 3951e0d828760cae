"""Blocks that are read ahead: each in a workspace of its own, which is used again once it was given back."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED

from engine.kafka.blocks import RawRecords
from engine.kafka.decompress import Workspace
from engine.worker.prefetch import EventRecords, Reading, Workspaces, read
from tests.engine.kafka.test_blocks import ABORT, TP, mail, marker
from tests.engine.worker.test_apply import EVENTS, Bench, batch_of, block_of
from topics.columns.scan import READY, SLOW


def readings_of(octets: bytes, first_offset: int = 0, aborted: list[tuple[int, int]] | None = None) -> list[Any]:
    reader = EventRecords(TP, RawRecords(octets), aborted, first_offset, None, None, True, READ_COMMITTED)
    return [record.value.result(10) for record in reader]


def values_of(reading: Reading) -> list[bytes]:
    return [reading.unpacked.value(reading.columns, i) for i in range(reading.count)]


def test_a_fetch_becomes_a_future_of_its_events() -> None:
    [reading] = readings_of(batch_of(EVENTS[:500]) + batch_of(EVENTS[500:1000], "lz4"), 7)
    assert reading.columns.offset[: reading.count].tolist() == list(range(7, 1000))
    assert set(reading.columns.status[: reading.count].tolist()) == {READY}
    assert (reading.block.first_offset, reading.block.last_offset) == (7, 999)


def test_values_that_are_no_plain_events_are_left_to_the_agent() -> None:
    [reading] = readings_of(mail(0))
    assert reading.columns.status[: reading.count].tolist() == [SLOW] * 3
    assert values_of(reading) == [b"v0", b"v1", b"v2"]


def test_aborted_mail_is_not_read() -> None:
    [reading] = readings_of(mail(0, producer=7) + marker(3, ABORT, 7) + mail(4, producer=8), aborted=[(7, 0)])
    assert values_of(reading) == [b"v4", b"v5", b"v6"]
    [nothing] = readings_of(mail(0, producer=7) + marker(3, ABORT, 7), aborted=[(7, 0)])
    assert values_of(nothing) == []


def test_readings_under_way_at_once_share_nothing() -> None:
    idle = Workspaces()
    blocks = [
        block_of(batch_of(EVENTS[at : at + 100], codec)) for at, codec in ((0, "lz4"), (100, "none"), (200, "zstd"))
    ]
    readings = [read(block, idle.take()) for block in blocks]
    assert [int(reading.columns.offset[0]) for reading in readings] == [0, 100, 200]
    assert len({id(reading.workspace) for reading in readings}) == 3
    before = [values_of(reading) for reading in readings]
    idle.give_back(readings[1].workspace)
    again = read(blocks[0], idle.take())
    assert again.workspace is readings[1].workspace
    assert values_of(again) == before[0] == values_of(readings[0])
    assert values_of(readings[2]) == before[2]


async def test_a_workspace_comes_back_whatever_becomes_of_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, idle = Bench(), Workspaces()
    monkeypatch.setattr("engine.worker.apply.WORKSPACES", idle)
    workspace = Workspace()
    for only in (bench.shards.only, None):
        bench.shards.only = only
        await bench.engine.take(read(block_of(batch_of(EVENTS[:10])), workspace))
        assert idle.take() is workspace

    async def refuse(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(bench.shards, "shard", refuse)
    with pytest.raises(RuntimeError):
        await bench.engine.take(read(block_of(batch_of(EVENTS[:10])), workspace))
    assert idle.take() is workspace
