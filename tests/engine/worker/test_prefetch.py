"""Blocks that are read ahead: each in a workspace of its own, which is used again once it was released."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, cast

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED

from engine.config.load import load_settings
from engine.kafka.blocks import BlockRecords, RawRecords
from engine.worker.app import Tidegate, create_app
from engine.worker.prefetch import EventBlock, Prefetcher
from tests.support.bench import EVENTS, batch_of, block_of, event_block
from tests.support.transactions import ABORT, TP, batch_at, marker
from topics.columns.scan import READY, SLOW


def events_of(raw: bytes, first_offset: int = 0, aborted: list[tuple[int, int]] | None = None) -> EventBlock:
    prefetcher = Prefetcher()
    reader = BlockRecords(TP, RawRecords(raw), aborted, first_offset, None, None, True, READ_COMMITTED)
    [record] = reader
    return prefetcher.submit(record.value).result(10)


def values_of(events: EventBlock) -> list[bytes]:
    return [events.unpacked.value(events.columns, i) for i in range(events.count)]


def test_fetch_becomes_its_events() -> None:
    events = events_of(batch_of(EVENTS[:500]) + batch_of(EVENTS[500:1000], "lz4"), 7)

    assert events.columns.offset[: events.count].tolist() == list(range(7, 1000))
    assert set(events.columns.status[: events.count].tolist()) == {READY}
    assert (events.block.first_offset, events.block.last_offset) == (7, 999)


def test_values_that_are_no_plain_events_are_left_to_the_agent() -> None:
    events = events_of(batch_at(0))

    assert events.columns.status[: events.count].tolist() == [SLOW] * 3
    assert values_of(events) == [b"v0", b"v1", b"v2"]


def test_aborted_records_are_not_read() -> None:
    aborted = batch_at(0, producer=7) + marker(3, ABORT, 7)

    events = events_of(aborted + batch_at(4, producer=8), aborted=[(7, 0)])
    nothing = events_of(aborted, aborted=[(7, 0)])

    assert values_of(events) == [b"v4", b"v5", b"v6"]
    assert values_of(nothing) == []


def test_blocks_in_work_share_no_workspace() -> None:
    prefetcher = Prefetcher()
    blocks = [
        block_of(batch_of(EVENTS[at : at + 100], codec)) for at, codec in ((0, "lz4"), (100, "none"), (200, "zstd"))
    ]

    read = [prefetcher.submit(block).result(10) for block in blocks]

    assert [int(events.columns.offset[0]) for events in read] == [0, 100, 200]
    assert len({id(events.workspace) for events in read}) == 3


def test_released_workspace_is_used_again_and_the_others_keep_their_events() -> None:
    prefetcher = Prefetcher()
    blocks = [block_of(batch_of(EVENTS[at : at + 100])) for at in (0, 100, 200)]
    read = [prefetcher.submit(block).result(10) for block in blocks]
    before = [values_of(events) for events in read]

    prefetcher.release(read[1].workspace)
    again = prefetcher.submit(blocks[0]).result(10)

    assert again.workspace is read[1].workspace
    assert values_of(again) == before[0] == values_of(read[0])
    assert values_of(read[2]) == before[2]


@pytest.fixture
async def app() -> Tidegate:
    return create_app(load_settings(None, {}, {"kafka.bootstrap": "127.0.0.1:1"}))


async def run_agent(app: Tidegate, events: EventBlock) -> None:
    async def stream() -> AsyncIterator[Future[EventBlock]]:
        done: Future[EventBlock] = Future()
        done.set_result(events)
        yield done

    await cast(Any, app.agents["detect"]).fun(stream())


async def test_agent_releases_the_workspace_of_an_applied_block(app: Tidegate) -> None:
    events = event_block(batch_of(EVENTS[:10]))

    await run_agent(app, events)

    assert app.prefetcher.acquire() is events.workspace


async def test_agent_releases_the_workspace_of_a_failed_block(app: Tidegate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: EventBlock) -> None:
        raise RuntimeError

    events = event_block(batch_of(EVENTS[:10]))
    monkeypatch.setattr(app.applier, "apply", refuse)
    monkeypatch.setattr(app, "fail", lambda _: None)

    await run_agent(app, events)

    assert app.prefetcher.acquire() is events.workspace
