"""The transport's overrides of Faust's consumer, on a real app that is not connected.

Revocation, assignment and the choice of partitions to commit run under the simulator, which checks their effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from engine.config.load import load_settings
from engine.kafka.blocks import BlockConsumer
from engine.worker.app import STREAM_BUFFER_BLOCKS, Tidegate, create_app
from engine.worker.transport import FETCH_WAIT_MS, Consumer, ConsumerThread, Transport
from tests.support.bench import EVENTS, batch_of, block_of

ONE, TWO = TP("connections", 0), TP("connections", 1)
OPTIONS = {"kafka.bootstrap": "127.0.0.1:1,127.0.0.1:2", "worker.app_id": "fleet", "worker.fetch_bytes": 1 << 20}


@pytest.fixture
def ended() -> list[BaseException]:
    return []


@pytest.fixture
async def app(ended: list[BaseException]) -> Tidegate:
    async def end(error: BaseException) -> None:
        ended.append(error)

    return create_app(load_settings(None, {}, OPTIONS), end=end)


@pytest.fixture
async def consumer(app: Tidegate) -> Any:
    async def nothing(*_: Any) -> None:
        return None

    transport: Any = app.transport
    return transport.create_consumer(nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing)


async def test_app_builds_block_consumers_with_the_options_of_the_cluster(app: Tidegate, consumer: Any) -> None:
    assert (type(app.transport), type(consumer), type(consumer._thread)) == (Transport, Consumer, ConsumerThread)

    built = consumer._thread._create_worker_consumer(app.transport)

    assert type(built) is BlockConsumer
    assert (built._group_id, built._fetch_max_wait_ms, built._max_partition_fetch_bytes) == (
        "fleet",
        FETCH_WAIT_MS,
        1 << 20,
    )
    assert (built._isolation_level, built._enable_auto_commit, built._auto_offset_reset) == (
        "read_committed",
        False,
        "earliest",
    )
    assert built._client._bootstrap_servers == "127.0.0.1:1,127.0.0.1:2"


async def test_fetched_blocks_are_read_ahead(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    block = block_of(batch_of(EVENTS[:10]))

    async def fetch(*_: Any) -> dict[TP, list[ConsumerRecord]]:
        return {ONE: [ConsumerRecord(*ONE, 9, 0, 0, None, block, None, -1, 1, ())]}

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)

    fetched = await consumer._thread._fetch_records(None, {ONE})

    [record] = fetched[ONE]
    events = record.value.result(10)
    assert (record.offset, events.block, events.count) == (9, block, 10)


async def test_stream_buffers_only_a_few_blocks(app: Tidegate) -> None:
    assert app.conf.stream_buffer_maxsize == STREAM_BUFFER_BLOCKS <= 8


async def test_only_durable_offsets_are_committed(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = {ONE: 41}
    monkeypatch.setattr(app.shards, "durable_offset", durable.get)
    consumer._acked[ONE] += [7, 8, 900]
    consumer._acked_index[ONE] |= {7, 8, 900}

    assert consumer._filter_committable_offsets([ONE, TWO]) == {ONE: 42}
    assert (ONE in consumer._acked, ONE in consumer._acked_index) == (False, False)

    consumer._committed_offset[ONE] = 42
    assert consumer._filter_committable_offsets([ONE, TWO]) == {}


@pytest.fixture
def sought(app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the seeks of the consumer. Committed is 500; the states are at 41 and 500; the topic ends at 501."""
    sought: list[Any] = []

    async def committed() -> dict[TP, int]:
        sought.append("committed")
        return {ONE: 500, TWO: 500}

    async def positions() -> dict[TP, int]:
        return {ONE: 42, TWO: 501}

    async def seek_wait(positions: dict[TP, int]) -> None:
        sought.append(positions)

    async def highwaters(*_: TP) -> dict[TP, int]:
        return {ONE: 501, TWO: 501}

    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(consumer, "seek_wait", seek_wait)
    monkeypatch.setattr(consumer, "highwaters", highwaters)
    monkeypatch.setattr(app.shards, "positions", positions)
    return sought


async def test_reading_begins_after_the_applied_offset_of_each_state(consumer: Any, sought: list[Any]) -> None:
    await consumer.perform_seek()

    assert sought == ["committed", {ONE: 42, TWO: 501}]


async def test_topic_that_ends_before_the_applied_offset_is_not_read(
    app: Tidegate, consumer: Any, sought: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def highwaters(*_: TP) -> dict[TP, int]:
        return {ONE: 501, TWO: 500}

    monkeypatch.setattr(consumer, "highwaters", highwaters)

    await consumer.perform_seek()

    assert sought == ["committed"]
    assert "partition 1, ends at offset 500, but its first 501 are in the state" in str(app.failure)


async def test_full_stream_keeps_its_partitions_active(consumer: Any) -> None:
    consumer._set_active_tps({ONE, TWO})

    consumer.on_buffer_full(ONE)

    assert (consumer._get_active_partitions(), consumer._buffered_partitions) == ({ONE, TWO}, set())


async def test_offsets_inside_a_block_are_no_gap(consumer: Any) -> None:
    await consumer._add_gap(ONE, 0, 10**6)

    assert not consumer._gap[ONE]


@pytest.mark.parametrize("committed", [True, False])
async def test_recorded_offset_advances_only_if_the_commit_succeeded(
    app: Tidegate, consumer: Any, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def commit(offsets: Mapping[TP, int]) -> bool:
        return committed

    async def flush() -> None:
        return None

    monkeypatch.setattr(consumer, "_commit", commit)
    monkeypatch.setattr(consumer, "assignment", lambda: {ONE})
    monkeypatch.setattr(app.producer, "flush", flush)
    consumer._committed_offset[ONE] = 5

    assert await consumer._commit_offsets({ONE: 42}) is committed

    assert consumer._committed_offset[ONE] == (42 if committed else 5)


async def test_commit_waits_for_the_one_under_way_and_then_commits(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def force_commit(*_: Any, **__: Any) -> bool:
        made.append("commit")
        return True

    monkeypatch.setattr(consumer, "force_commit", force_commit)
    consumer._commit_fut = under_way = app.loop.create_future()
    waiting = app.loop.create_task(consumer.commit())
    await app.sleep(0.01)
    assert made == []

    consumer._commit_fut = None
    under_way.set_result(None)

    assert await waiting
    assert made == ["commit"]


async def test_first_failure_ends_the_worker_and_is_kept(app: Tidegate, ended: list[BaseException]) -> None:
    first, second = RuntimeError("first"), RuntimeError("second")

    app.fail(first)
    app.fail(second)
    await app.sleep(0.01)

    assert (app.failure, ended) == (first, [first])
