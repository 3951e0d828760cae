"""What the transport changes of Faust's consumer, on a real app that is connected to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from engine.config.load import load_settings
from engine.worker.app import STREAM_BUFFER_BLOCKS, Tidegate, create_app
from engine.worker.prefetch import EventConsumer
from engine.worker.transport import FETCH_WAIT_MS, Consumer, ConsumerThread, Transport

ONE, TWO = TP("connections", 0), TP("connections", 1)


@pytest.fixture
async def app() -> Tidegate:
    overrides = {"kafka.bootstrap": "127.0.0.1:1,127.0.0.1:2", "worker.app_id": "fleet", "worker.fetch_bytes": 1 << 20}
    return create_app(load_settings(None, {}, overrides))


@pytest.fixture
async def consumer(app: Tidegate) -> Any:
    async def nothing(*_: Any) -> None:
        return None

    transport: Any = app.transport
    return transport.create_consumer(nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing)


async def test_the_apps_consumer_builds_event_consumers_with_the_clusters_options(app: Tidegate, consumer: Any) -> None:
    assert (type(app.transport), type(consumer), type(consumer._thread)) == (Transport, Consumer, ConsumerThread)
    built = consumer._thread._create_worker_consumer(app.transport)
    assert type(built) is EventConsumer
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


async def test_only_a_few_blocks_wait_in_the_stream(app: Tidegate) -> None:
    assert app.conf.stream_buffer_maxsize == STREAM_BUFFER_BLOCKS <= 8


async def test_what_may_be_committed_is_what_is_durable(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = {ONE: 41}
    monkeypatch.setattr(app.shards, "durable_offset", durable.get)
    consumer._acked[ONE] += [7, 8, 900]
    consumer._acked_index[ONE] |= {7, 8, 900}
    assert (consumer._new_offset(ONE), consumer._new_offset(TWO)) == (42, None)
    assert (ONE in consumer._acked, ONE in consumer._acked_index) == (False, False)
    assert consumer._filter_committable_offsets([ONE, TWO]) == {ONE: 42}
    consumer._committed_offset[ONE] = 42
    assert consumer._filter_committable_offsets([ONE, TWO]) == {}


async def test_every_partition_that_is_ready_is_asked_for_its_offset(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.shards, "assigned", lambda: [ONE, TWO])
    assert list(consumer._filter_tps_with_pending_acks()) == [ONE, TWO]
    assert list(consumer._filter_tps_with_pending_acks({TWO})) == [TWO]
    assert list(consumer._filter_tps_with_pending_acks({"connections"})) == [ONE, TWO]
    assert list(consumer._filter_tps_with_pending_acks({"decisions"})) == []


@pytest.fixture
def sought(app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where the consumer has been told to go on: committed to 500, the states to 41 and 500, the topic's ends are 501."""
    sought: list[Any] = []

    async def committed() -> dict[TP, int]:
        sought.append("committed")
        return {ONE: 500, TWO: 500}

    async def positions() -> dict[TP, int]:
        return {ONE: 42, TWO: 501}

    async def seek_wait(places: dict[TP, int]) -> None:
        sought.append(places)

    async def highwaters(*_: TP) -> dict[TP, int]:
        return {ONE: 501, TWO: 501}

    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(consumer, "seek_wait", seek_wait)
    monkeypatch.setattr(consumer, "highwaters", highwaters)
    monkeypatch.setattr(app.shards, "positions", positions)
    return sought


async def test_reading_begins_behind_what_each_state_has_applied(consumer: Any, sought: list[Any]) -> None:
    await consumer.perform_seek()
    assert sought == ["committed", {ONE: 42, TWO: 501}]


async def test_a_topic_that_ends_before_what_the_state_has_applied_is_not_read(
    app: Tidegate, consumer: Any, sought: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def highwaters(*_: TP) -> dict[TP, int]:
        return {ONE: 501, TWO: 500}

    async def stop(_: BaseException) -> None:
        return None

    monkeypatch.setattr(consumer, "highwaters", highwaters)
    app.stop_soon = stop
    await consumer.perform_seek()
    assert sought == ["committed"]
    assert "partition 1, ends at offset 500, but its first 501 are in the state" in str(app.failure)


async def test_a_full_stream_keeps_its_partitions(consumer: Any) -> None:
    consumer._set_active_tps({ONE, TWO})
    consumer.on_buffer_full(ONE)
    assert (consumer._get_active_partitions(), consumer._buffered_partitions) == ({ONE, TWO}, set())


async def test_offsets_inside_a_block_are_no_gap(consumer: Any) -> None:
    await consumer._add_gap(ONE, 0, 10**6)
    assert not consumer._gap[ONE]


@pytest.mark.parametrize("committed", [True, False])
async def test_the_books_follow_the_commit(
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


async def test_a_commit_under_way_is_waited_for_and_followed_by_another(
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


async def test_a_partition_that_goes_is_made_durable_and_committed_before_it_is_forgotten(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[Any] = []

    def note(name: str) -> Any:
        async def noted(*arguments: Any) -> None:
            order.append((name, *(argument for argument in arguments if argument == {ONE})))

        return noted

    monkeypatch.setattr(app.shards, "close", note("close"))
    monkeypatch.setattr(app.shards, "drop", note("drop"))
    monkeypatch.setattr(consumer, "commit", note("commit"))
    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", note("revoked"))
    await consumer.on_partitions_revoked({ONE})
    assert order == [("close", {ONE}), ("commit",), ("revoked", {ONE}), ("drop", {ONE})]


async def test_a_partition_that_comes_is_opened_before_its_first_block(
    app: Tidegate, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    async def assigned(*_: Any) -> None:
        order.append("assigned")

    def assign(tps: set[TP], standbys: set[TP]) -> None:
        assert (tps, standbys) == ({ONE}, {TWO})
        order.append("open")

    assignor: Any = app.assignor
    assignor._assignment.standbys["connections"] = [1]
    monkeypatch.setattr(app.shards, "assign", assign)
    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", assigned)
    await consumer.on_partitions_assigned({ONE}, 3)
    assert order == ["open", "assigned"]


async def test_the_first_failure_ends_the_worker_and_is_kept(app: Tidegate) -> None:
    ended: list[BaseException] = []

    async def stop(error: BaseException) -> None:
        ended.append(error)

    app.stop_soon = stop
    first, second = RuntimeError("first"), RuntimeError("second")
    app.fail(first)
    app.fail(second)
    await app.sleep(0.01)
    assert (app.failure, ended) == (first, [first])
