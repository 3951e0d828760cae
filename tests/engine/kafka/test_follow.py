"""The topic reader and the retry loop: every wait is bounded, and what failed is read again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from engine.kafka import follow
from engine.kafka.follow import RateLimitedWarning, TopicReader, retry, stop_within

A, B, BEATS = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("beats", 0)


class FakeConsumer:
    """A consumer of `LOGS`: by partition, the offsets of its records. A None is a transaction marker."""

    LOGS: ClassVar[dict[TopicPartition, list[int | None]]] = {}
    stopped = 0

    def __init__(self, *topics: str, max_poll_records: int, **_: Any) -> None:
        self._tps = [tp for tp in self.LOGS if tp.topic in topics]
        self._max = max_poll_records
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        type(self).stopped += 1

    def assign(self, tps: list[TopicPartition]) -> None:
        self._tps = tps

    def assignment(self) -> set[TopicPartition]:
        return set(self._tps)

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: next((at for at in self.LOGS[tp] if at is not None), 0) for tp in tps}

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self.LOGS[tp]) for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0)
        fetched: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp in self._tps:
            at = self._positions[tp]
            part = self.LOGS[tp][at : at + self._max]
            self._positions[tp] = at + len(part)
            records = [
                ConsumerRecord(*tp, offset, 0, 0, None, b"", None, 0, 0, ()) for offset in part if offset is not None
            ]
            if records:
                fetched[tp] = records
        return fetched


@pytest.fixture(autouse=True)
def _logs() -> None:
    FakeConsumer.LOGS = {A: [0, 1, 2, None], B: [0, 1], BEATS: [0, 1]}
    FakeConsumer.stopped = 0


def reader_of(sources: list[Any], positions: dict[TopicPartition, int] | None = None, **options: Any) -> TopicReader:
    return TopicReader(sources, {}, positions, consumer_class=FakeConsumer, **options)


async def read(reader: TopicReader) -> list[tuple[int, int]]:
    async with reader:
        return [(record.partition, record.offset) async for records in reader for record in records]


async def test_reading_until_the_end_yields_every_record_and_ends_after_a_marker() -> None:
    reader = reader_of(["a"], until_end=True, max_records=2)

    found = await read(reader)

    assert sorted(found) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert reader.positions == {A: 4, B: 2}
    assert (reader.share(), FakeConsumer.stopped) == (1.0, 1)


async def test_reading_until_the_end_of_empty_partitions_ends_immediately() -> None:
    FakeConsumer.LOGS = {A: []}

    assert await read(reader_of([A], until_end=True)) == []


async def test_reading_a_partition_continues_at_its_position() -> None:
    assert await read(reader_of([A], {A: 2}, until_end=True)) == [(0, 2)]


async def test_reading_a_shortened_topic_drops_all_positions() -> None:
    reader = reader_of(["a"], {A: 1, B: 3}, until_end=True)

    found = await read(reader)

    assert reader.is_recreated
    assert len(found) == 5


async def test_batch_whose_application_failed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "RETRY_S", 0.0)
    positions: dict[TopicPartition, int] = {}
    seen: list[list[int]] = []

    async def work() -> None:
        async with reader_of([A], positions, until_end=True, max_records=1) as reader:
            async for records in reader:
                seen.append([record.offset for record in records])
                if len(seen) == 2:
                    raise KafkaConnectionError

    await retry(work)

    assert [offsets for offsets in seen if offsets] == [[0], [1], [1], [2]]


async def test_following_yields_an_empty_batch_without_records_and_then_new_ones() -> None:
    FakeConsumer.LOGS = {A: [0]}
    batches: list[int] = []
    async with reader_of(["a"]) as reader:
        async for records in reader:
            batches.append(len(records))
            if len(batches) == 2:
                assert reader.is_caught_up
                FakeConsumer.LOGS[A].append(1)
            if len(batches) == 3:
                break

    assert batches == [1, 0, 1]


async def test_skipped_topic_yields_only_new_records() -> None:
    found: list[ConsumerRecord] = []
    async with reader_of(["beats"]) as reader:
        reader.skip_to_end("beats")
        FakeConsumer.LOGS[BEATS].append(2)
        async for records in reader:
            found += records
            if found:
                break

    assert [record.offset for record in found] == [2]


async def test_end_that_is_never_reached_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "STALL_S", 0.0)
    reader = reader_of([A], until_end=True)

    async with reader:
        reader.ends[A] = 10
        with pytest.raises(KafkaTimeoutError):
            [records async for records in reader]


async def test_reader_that_fails_to_start_stops_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_: FakeConsumer) -> None:
        raise KafkaConnectionError

    monkeypatch.setattr(FakeConsumer, "start", fails)

    with pytest.raises(KafkaConnectionError):
        await read(reader_of(["a"]))
    assert FakeConsumer.stopped == 1


async def test_retry_repeats_work_that_was_cancelled_by_a_client_and_ends_when_its_task_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "RETRY_S", 0.0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise asyncio.CancelledError
        await asyncio.sleep(60)

    task = asyncio.create_task(retry(work))
    await asyncio.sleep(0.05)
    assert (begun, task.done()) == (3, False)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_retry_raises_an_error_that_is_not_the_clusters() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await retry(work)


async def test_client_that_does_not_stop_or_fails_at_it_is_abandoned() -> None:
    async def fails(error: BaseException) -> None:
        raise error

    began_s = time.monotonic()

    await stop_within(asyncio.sleep(60), 0.05)
    for error in (OSError("x"), asyncio.CancelledError()):
        await stop_within(fails(error), 60)

    assert time.monotonic() - began_s < 30


def test_warning_repeats_a_reason_once_a_minute_and_logs_another_immediately(caplog: pytest.LogCaptureFixture) -> None:
    warning = RateLimitedWarning(logging.getLogger("test"), "no: %s")

    for now_s, error in (
        (0, OSError("a")),
        (1, OSError("a")),
        (2, TimeoutError()),
        (61.9, TimeoutError()),
        (62, TimeoutError()),
    ):
        warning.add(error, now_s)

    assert [record.message for record in caplog.records] == ["no: a", "no: TimeoutError", "no: TimeoutError"]
