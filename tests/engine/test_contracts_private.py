"""Check every private name of a library that the engine uses.

A new version of aiokafka, faust-streaming or Numba that breaks one of these tests breaks the engine, perhaps silently. The
versions are pinned exactly; this file lists the assumptions to check before a pin changes.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiokafka
import faust
import numba
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import RecordTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.serializers.schemas import Schema
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from yarl import URL

from engine.config.load import load_settings
from engine.detector.expiry import rebuild_queue
from engine.detector.layout import empty_state
from engine.kafka.blocks import BlockConsumer, BlockFetcher, BlockRecords, RawRecords
from engine.worker.app import BlockSchema, Tidegate, create_app
from engine.worker.assignor import Assignor
from engine.worker.transport import Consumer, ConsumerThread, Transport
from tests.support.fetches import Sent, by_aiokafka
from topics.columns.batchwrite import ColumnBatch
from topics.columns.jit import FLAGS

TP, OTHER = TopicPartition("connections", 0), TopicPartition("connections", 1)


def names_in(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the global names and attributes that a function reads."""
    names: tuple[str, ...] = cast(Any, function).__code__.co_names
    return names


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def attributes_of(owner: type, name: str) -> set[str]:
    """Return the attributes of ``<anything>.name`` and of a local ``name`` that the source of a class reads."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = node.value
            if (isinstance(base, ast.Attribute) and base.attr == name) or (
                isinstance(base, ast.Name) and base.id == name
            ):
                found.add(node.attr)
    return found


@pytest.mark.parametrize("name", ["aiokafka", "faust-streaming", "numba", "numpy", "cramjam", "orjson"])
def test_installed_version_is_the_pinned_one(name: str, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert f"{name}=={version(name)}" in project["dependencies"] + project["optional-dependencies"]["engine"]


# aiokafka's fetcher


def test_fetcher_builds_its_readers_from_two_names_of_its_module() -> None:
    assert {"MemoryRecords", "PartitionRecords"} <= set(names_in(fetcher.Fetcher._proc_fetch_request))
    ours = cast(Any, BlockFetcher._proc_fetch_request).__globals__
    assert (ours["MemoryRecords"], ours["PartitionRecords"]) == (RawRecords, BlockRecords)
    assert fetcher.MemoryRecords is not RawRecords
    assert fetcher.PartitionRecords is BlockRecords.__mro__[1]


async def fetched(raw: bytes) -> Any:
    """Return the parts of a fetcher that handle a response, after a response with these bytes."""
    reached = SimpleNamespace(
        _client=SimpleNamespace(send=lambda node, request: answer()), _client_rack=None, _records={}, _errors={},
        _key_deserializer=None, _value_deserializer=None, _check_crcs=True, _prefetch_backoff=0.0,
        _isolation_level=fetcher.READ_COMMITTED, _preferred_read_replica={}, _max_partition_fetch_bytes=1,
    )  # fmt: skip
    reached._set_error = reached._errors.__setitem__
    state = SimpleNamespace(has_valid_position=True, position=1, paused=False)
    state.consumed_to = lambda position: setattr(state, "position", position)
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    request = SimpleNamespace(topics=[(TP.topic, [(TP.partition, 1, 0)])])

    async def answer() -> Any:
        return SimpleNamespace(API_VERSION=11, topics=[(TP.topic, [(TP.partition, 0, 9, 9, 0, [(5, 0)], -1, raw)])])

    reached.woken = await cast(Any, BlockFetcher)._proc_fetch_request(reached, assignment, 0, request)
    reached.state = state
    return reached


async def test_a_response_becomes_a_block_and_the_position_moves_after_it() -> None:
    reached = await fetched(by_aiokafka([Sent(1000, None, b"v%d" % i) for i in range(4)]))
    result = reached._records[TP]
    assert reached.woken
    record = result.getone()
    assert (record.value.first_offset, record.value.last_offset, reached.state.position) == (1, 3, 4)
    assert result.getone() is None
    assert not result.has_more()


async def test_batch_larger_than_the_fetch_is_an_error_without_a_block() -> None:
    reached = await fetched(by_aiokafka([Sent(1000, None, b"v")])[:-1])
    assert (reached._records, type(reached._errors[TP])) == ({}, RecordTooLargeError)


def test_reader_has_the_constructor_and_attributes_that_ours_uses() -> None:
    assert parameters(fetcher.PartitionRecords.__init__)[1:] == [
        "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer", "value_deserializer", "check_crcs",
        "isolation_level",
    ]  # fmt: skip
    reader = BlockRecords(TP, RawRecords(b""), [(9, 6), (8, 2), (7, 4)], 5, None, None, True, fetcher.READ_COMMITTED)
    assert (reader._tp, reader._records.raw, reader._check_crcs, reader.next_fetch_offset) == (TP, b"", True, 5)
    reader._consume_aborted_up_to(4)
    assert reader._aborted_producers == {8, 7}
    assert "_unpack_records" in names_in(fetcher.PartitionRecords.__init__)


def test_fetch_result_reads_only_records_and_position_of_a_reader() -> None:
    assert attributes_of(fetcher.FetchResult, "_partition_records") == {"next_fetch_offset"}


def test_consumer_builds_its_fetcher_from_a_name_of_its_module() -> None:
    assert "Fetcher" in names_in(AIOKafkaConsumer.start)
    assert cast(Any, BlockConsumer.start).__globals__["Fetcher"] is BlockFetcher
    assert cast(Any, AIOKafkaConsumer.start).__globals__["Fetcher"] is fetcher.Fetcher


async def test_block_consumer_always_reads_committed_transactions() -> None:
    consumer = BlockConsumer("connections", isolation_level="read_uncommitted", bootstrap_servers="127.0.0.1:1")
    assert consumer._isolation_level == "read_committed"
    assert "_isolation_level" in names_in(AIOKafkaConsumer.start)


# aiokafka's producer


def test_column_batch_has_every_used_method_of_a_batch_builder() -> None:
    asked = attributes_of(MessageBatch, "_builder") | attributes_of(MessageAccumulator, "_builder")
    assert asked == {"record_count", "append", "closed", "_set_producer_state", "_build", "close"}
    assert asked - {"append"} <= set(dir(ColumnBatch))  # append: for single messages, which share no producer with ours
    for name in sorted(asked - {"append"}):
        assert parameters(getattr(ColumnBatch, name)) == parameters(getattr(BatchBuilder, name)), name


async def test_column_batch_passes_the_accumulator_with_the_producers_sequence() -> None:
    pids = SimpleNamespace(
        has_pid=lambda: True, sequence_number=lambda tp: 40, producer_id=77, producer_epoch=5, counted=[],
        maybe_add_partition_to_txn=lambda tp: None,
    )  # fmt: skip
    pids.increment_sequence_number = lambda tp, count: pids.counted.append(count)
    cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)
    accumulator = MessageAccumulator(cluster, 1 << 14, 0, 30, txn_manager=pids, linger_ms=60_000)
    record = b"\x10\0\0\0\x01\x04ok\0"
    future = await accumulator.add_batch(ColumnBatch(record * 3, 3, (5, 5), codec="none"), TP, 1)
    nodes, _ = accumulator.drain_by_nodes(set())
    batch = nodes[1][TP]
    assert (batch.record_count, pids.counted) == (3, [3])
    head = aiokafka.record.memory_records.MemoryRecords(bytes(batch.get_data_buffer())).next_batch()
    assert (head.producer_id, head.producer_epoch, head.base_sequence) == (77, 5, 40)
    batch.done(base_offset=100)
    assert (await future).offset == 100


def test_producer_sends_a_whole_batch_to_a_partition() -> None:
    assert str(inspect.signature(AIOKafkaProducer.send_batch)) == "(self, batch, topic, *, partition)"
    assert "add_batch" in names_in(AIOKafkaProducer.send_batch)
    assert {"transactional_id", "transaction_timeout_ms", "enable_idempotence"} <= set(parameters(AIOKafkaProducer))


# Faust's driver, consumer, schema and app


def test_producer_builds_its_sender_from_a_name_of_its_module() -> None:
    assert "Sender" in names_in(AIOKafkaProducer.__init__)
    assert parameters(Sender._find_coordinator) == ["self", "coordinator_type", "coordinator_key"]
    source = inspect.getsource(Sender._find_coordinator)
    assert "raise KafkaError(repr(err)) from err" in source, (
        "what ends the sender: ours tries again if the cause is retriable"
    )


def test_assignor_lists_the_standbys_of_this_worker() -> None:
    assignor: Any = PartitionAssignor(cast(Any, SimpleNamespace(tables=None)), replicas=1)
    assignor._assignment.standbys["connections"] = [1, 2]
    assert assignor.assigned_standbys() == {("connections", 1), ("connections", 2)}


def dealt(url: str, distribution: dict[str, dict[str, list[int]]]) -> Any:
    """Return an assignment without partitions, as the group's leader sends it to the worker of that address."""
    made: Any = ClientMetadata(
        assignment=ClientAssignment(actives={}, standbys={}),
        url=url,
        changelog_distribution={},
        external_topic_distribution=distribution,
        topic_groups={},
    )
    return ConsumerProtocolMemberAssignment(4, [], zlib.compress(made.dumps()))


def test_assignment_gives_every_worker_the_partitions_by_address() -> None:
    conf = SimpleNamespace(canonical_url=URL("http://127.0.0.1:1/#a"))
    tables = SimpleNamespace(changelog_topics=set())
    assignor: Any = Assignor(cast(Any, SimpleNamespace(tables=tables, conf=conf)))
    assert orjson.loads(assignor.metadata({"connections"}).user_data)["url"] == "http://127.0.0.1:1/#a"
    distribution = {"http://127.0.0.1:2/#b": {"connections": [0, 1]}}
    assignor.on_assignment(dealt("http://127.0.0.1:1/#a", distribution))
    assert assignor.external_topics_metadata() == distribution
    assert assignor._get_external_topic_distribution({}) == {}
    settings = load_settings(None, {}, {"kafka.bootstrap": "nowhere.invalid:9092"})
    assert type(create_app(settings).assignor) is Assignor


def test_restarted_static_member_accepts_the_assignment_of_its_predecessor() -> None:
    tables = SimpleNamespace(changelog_topics=set())
    app = cast(Any, SimpleNamespace(tables=tables, conf=SimpleNamespace(canonical_url=URL("http://127.0.0.1:9/#a"))))
    with pytest.raises(AssertionError):
        PartitionAssignor(app).on_assignment(cast(Any, dealt("http://127.0.0.1:1/#a", {})))
    ours: Any = Assignor(app)
    distribution = {"http://127.0.0.1:1/#a": {"connections": [0]}}
    ours.on_assignment(dealt("http://127.0.0.1:1/#a", distribution))
    assert ours.external_topics_metadata() == distribution


def test_driver_builds_its_consumer_from_the_module_aiokafka() -> None:
    stock = driver.AIOKafkaConsumerThread._create_worker_consumer
    assert {"aiokafka", "AIOKafkaConsumer"} <= set(names_in(stock))
    assert parameters(stock) == parameters(ConsumerThread._create_worker_consumer)
    assert "_create_worker_consumer" in names_in(driver.AIOKafkaConsumerThread._create_consumer)
    assert "_new_consumer_thread" in names_in(faust_consumer.ThreadDelegateConsumer.__init__)


def test_fetched_records_pass_through_the_overridden_method_of_the_thread() -> None:
    stock = driver.AIOKafkaConsumerThread
    assert parameters(stock._fetch_records) == parameters(ConsumerThread._fetch_records)
    assert "_fetch_records" in names_in(stock.getmany)


OVERRIDDEN = ["_new_consumer_thread", "_filter_tps_with_pending_acks", "_new_offset", "_add_gap", "_commit_offsets"]
OVERRIDDEN += ["on_buffer_full", "perform_seek", "on_partitions_revoked", "on_partitions_assigned"]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_method_exists_with_the_same_parameters(name: str) -> None:
    ours, stock = getattr(Consumer, name), getattr(driver.Consumer, name)
    assert name in vars(Consumer)
    assert parameters(ours) == parameters(stock)
    assert inspect.iscoroutinefunction(inspect.unwrap(ours)) == inspect.iscoroutinefunction(inspect.unwrap(stock))


def test_commits_go_through_the_overridden_methods() -> None:
    base = faust_consumer.Consumer
    assert {"_filter_tps_with_pending_acks", "_commit_tps"} <= set(names_in(inspect.unwrap(base.force_commit)))
    assert {"_filter_committable_offsets", "_commit_offsets"} <= set(names_in(base._commit_tps))
    assert {"_new_offset", "_should_commit"} <= set(names_in(base._filter_committable_offsets))
    assert "_committed_offset" in names_in(base._should_commit)
    assert "await self._add_gap(tp, r_offset + 1, offset)" in inspect.getsource(base)


async def test_waiting_seek_also_moves_the_read_offset() -> None:
    """Faust drops messages below the read offset, so a seek back must lower it."""
    sought: dict[TopicPartition, int] = {}

    async def position(tp: TopicPartition) -> int:
        return sought[tp]

    client = SimpleNamespace(seek=sought.__setitem__, position=position)
    owner = SimpleNamespace(_read_offset={TP: 900, OTHER: 900})
    thread: Any = SimpleNamespace(
        consumer=owner,
        log=SimpleNamespace(dev=lambda *_: None),
        app=SimpleNamespace(conf=SimpleNamespace(broker_request_timeout=1.0)),
    )
    await driver.AIOKafkaConsumerThread._seek_wait(thread, cast(Any, client), cast(Any, {TP: 41, OTHER: 0}))
    assert (sought, owner._read_offset) == ({TP: 41, OTHER: 0}, {TP: 41})
    assert "_seek_wait" in names_in(driver.AIOKafkaConsumerThread.seek_wait)
    assert "offset >= r_offset" in inspect.getsource(faust_consumer.Consumer)


def test_full_stream_calls_the_method_that_ours_overrides() -> None:
    assert "app.consumer.on_buffer_full" in inspect.getsource(faust.transport.conductor)
    assert "_buffered_partitions" in names_in(faust_consumer.Consumer.on_buffer_full)


def test_acks_are_kept_under_the_names_that_we_clear() -> None:
    assert {"_acked", "_acked_index", "_committed_offset"} <= set(names_in(faust_consumer.Consumer.ack))


async def test_schema_loads_key_and_value_by_the_methods_that_ours_overrides() -> None:
    assert {"loads_key", "loads_value"} <= set(names_in(Schema.compile))
    made: list[Any] = []
    app = SimpleNamespace(
        serializers=SimpleNamespace(loads_key=None, loads_value=None), create_event=lambda *event: made.append(event)
    )
    message = SimpleNamespace(key=b"k", value=object(), headers=())
    await BlockSchema().decode(cast(Any, app), cast(Any, message))
    assert made == [(None, message.value, (), message)]


def test_app_makes_its_transport_by_the_method_that_ours_overrides() -> None:
    assert "_new_transport" in inspect.getsource(faust.App)
    assert parameters(Tidegate._new_transport) == parameters(faust.App._new_transport) == ["self"]
    assert (Transport.Consumer, Transport.__mro__[1]) == (Consumer, driver.Transport)
    assert "Consumer" in names_in(faust.transport.base.Transport.create_consumer)


def test_worker_has_a_crash_reason_and_an_optional_spinner() -> None:
    assert {"crash_reason", "execute_from_commandline", "stop"} <= set(dir(faust.Worker))
    assert "self.spinner" in inspect.getsource(faust.Worker)


# Numba's flags


def llvm_of(flags: dict[str, Any]) -> str:
    """Compile a real kernel that passes arrays to inlined functions; return its code."""
    compiled = numba.njit(**flags)(cast(Any, rebuild_queue).py_func)
    compiled(empty_state(1024))
    return str(compiled.inspect_llvm(compiled.signatures[0]))


def test_kernels_count_no_references_and_call_no_function_of_ours() -> None:
    ours, without = llvm_of(FLAGS), llvm_of({**FLAGS, "_nrt": True})
    assert "NRT_" in without
    assert "NRT_" not in ours
    called = set(re.findall(r'call [^@\n]*@"?(_ZN\w+)', ours))
    assert all("rebuild_queue" in name for name in called), called


def test_kernels_release_the_lock_and_divide_as_ieee_does() -> None:
    assert "PyEval_SaveThread" in llvm_of(FLAGS)
    divide = numba.njit(**FLAGS)(lambda x, y: x / y)
    assert divide(1.0, 0.0) == np.inf
