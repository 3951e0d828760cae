"""Background tasks of aiokafka that would end for good at an error that passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError
from aiokafka.producer.sender import Sender

from engine.kafka import resilient_clients
from engine.kafka.blocks import BlockConsumer
from engine.kafka.resilient_clients import ResilientClient, ResilientProducer, ResilientSender, is_transient

SERVER = "127.0.0.1:1"


async def test_producers_and_consumers_have_resilient_parts() -> None:
    producer = ResilientProducer(bootstrap_servers=SERVER, transactional_id="one")
    assert (type(producer._sender), type(producer.client)) == (ResilientSender, ResilientClient)
    assert type(BlockConsumer(bootstrap_servers=SERVER)._client) is ResilientClient


async def test_metadata_task_survives_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [RuntimeError("half a broker"), True]

    async def update(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = ResilientClient(bootstrap_servers=SERVER)
    monkeypatch.setattr(client, "_metadata_update", update)
    monkeypatch.setattr(resilient_clients, "RETRY_S", 0.0)
    client._md_update_waiter = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(client._md_synchronizer())
    assert await asyncio.wait_for(client.force_metadata_update(), 5) is False
    assert await asyncio.wait_for(client.force_metadata_update(), 5) is True
    assert not task.done()
    task.cancel()


async def test_stock_metadata_task_ends_at_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def update(*_: Any) -> Any:
        raise RuntimeError("half a broker")

    client = AIOKafkaClient(bootstrap_servers=SERVER)
    monkeypatch.setattr(client, "_metadata_update", update)
    client._md_update_waiter = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(client._md_synchronizer())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.force_metadata_update(), 0.05)
    assert isinstance(task.exception(), RuntimeError)


def test_retriable_and_timeout_errors_are_transient() -> None:
    assert [is_transient(error) for error in (KafkaConnectionError(), KafkaTimeoutError(), KafkaError())] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(("cause", "calls"), [(KafkaConnectionError(), 2), (TopicAuthorizationFailedError(), 1)])
async def test_coordinator_lookup_is_repeated_after_a_retriable_error(
    cause: KafkaError, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    async def find(self: Sender, kind: int, key: str) -> int:
        nonlocal count
        count += 1
        if count == 1:
            raise KafkaError("lost") from cause
        return 7

    monkeypatch.setattr(Sender, "_find_coordinator", find)
    monkeypatch.setattr(resilient_clients, "RETRY_S", 0.0)
    sender = ResilientSender.__new__(ResilientSender)
    if calls == 1:
        with pytest.raises(KafkaError, match="lost"):
            await sender._find_coordinator(1, "one")
    else:
        assert await sender._find_coordinator(1, "one") == 7
    assert count == calls
